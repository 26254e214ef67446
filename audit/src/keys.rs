//! The keys that heads are signed with: the present one, and the public halves of all there were.
//!
//! Whoever can read the key can sign another history. It proves something to others only while it
//! is out of their reach, or when a witness elsewhere has seen the heads.

use std::path::Path;

use ed25519_dalek::SigningKey;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::Error;
use crate::folder::Folder;
use crate::note::{Head, PublicKey, sign, signed};
use crate::text::{base64, hex, unbase64};

const SECRET: &str = "audit.key";
const PUBLIC: &str = "audit.pub";

/// What is signed when one key hands over to the next.
const HANDING_OVER: &str = "agt-audit key\n";

/// The key that signs, and those that have signed.
#[derive(Debug)]
pub struct Keys {
    folder: Folder,
    secret: SigningKey,
    own: PublicKey,
    public: Vec<PublicKey>,
}

impl Keys {
    /// The keys of this folder (0700), which are made when there are none.
    ///
    /// # Errors
    /// When the folder is not ours alone, or a key in it cannot be read.
    pub fn open_or_create(dir: &Path) -> Result<Self, Error> {
        let folder = Folder::private(dir)?;
        let _alone = folder.lock()?;
        let listed = folder.read(PUBLIC)?;
        match (folder.read(SECRET)?, listed) {
            (Some(secret), Some(listed)) => Self::read(folder, &secret, &listed),
            (None, None) => Self::create(folder),
            // A crash while the first one was made: the secret comes last, so nothing was signed.
            (None, Some(listed)) if parse_list(&listed)?.len() == 1 => Self::create(folder),
            (Some(_), None) | (None, Some(_)) => Err(Error::Key {
                path: folder.path_of(SECRET),
                what: "one of audit.key and audit.pub is missing; put it back",
            }),
        }
    }

    fn read(folder: Folder, secret: &[u8], listed: &[u8]) -> Result<Self, Error> {
        let (secret, public) = present(&folder, secret, listed)?;
        let own = public.last().cloned().ok_or_else(|| unlisted(&folder))?;
        Ok(Self {
            folder,
            secret,
            own,
            public,
        })
    }

    fn create(folder: Folder) -> Result<Self, Error> {
        let mut label = [0; 8];
        random(&mut label)?;
        let name = format!("agt-audit/{}", hex(&label));
        let secret = fresh()?;
        let own = PublicKey::new(&name, secret.verifying_key());
        write(&folder, format!("{own}\n").as_bytes(), &secret)?;
        Ok(Self {
            folder,
            secret,
            public: vec![own.clone()],
            own,
        })
    }

    /// Makes a new key, which the old one signs. Heads that the old one signed stay verifiable.
    ///
    /// # Errors
    /// When it cannot be written; then the old one stays.
    pub fn rotate(&mut self) -> Result<(), Error> {
        let _alone = self.folder.lock()?;
        let path = self.folder.path_of(SECRET);
        let missing = || Error::io(path)(std::io::ErrorKind::NotFound.into());
        let list = self.folder.read(PUBLIC)?.unwrap_or_default();
        // Somebody else may have rotated it.
        let stored = self.folder.read(SECRET)?.ok_or_else(missing)?;
        (self.secret, self.public) = present(&self.folder, &stored, &list)?;
        self.own = PublicKey::new(&self.own.name, self.secret.verifying_key());
        let secret = fresh()?;
        let next = PublicKey::new(&self.own.name, secret.verifying_key());
        let handed = self.sign(handed_over(&next).as_bytes());
        // Lines of rotations that were cut short go.
        let kept = list.split_inclusive(|byte| *byte == b'\n');
        let mut list: Vec<u8> = kept.take(self.public.len()).flatten().copied().collect();
        list.extend_from_slice(format!("{next} {handed}\n").as_bytes());
        write(&self.folder, &list, &secret)?;
        self.secret = secret;
        self.own = next.clone();
        self.public.push(next);
        Ok(())
    }

    /// The public half of the key that signs now.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.own
    }

    /// Every key that ever signed, the first one first.
    #[must_use]
    pub fn all(&self) -> &[PublicKey] {
        &self.public
    }

    pub(crate) fn checkpoint(&self, head: &Head) -> String {
        signed(head, &self.secret, self.public())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> String {
        sign(&self.secret, self.public(), message)
    }
}

/// The secret, and the listed keys up to its own: a rotation that was cut short lists one more.
fn present(
    folder: &Folder,
    secret: &[u8],
    listed: &[u8],
) -> Result<(SigningKey, Vec<PublicKey>), Error> {
    let text = std::str::from_utf8(secret).unwrap_or_default();
    let seed = unbase64(text.trim_end()).and_then(|seed| <[u8; 32]>::try_from(seed).ok());
    let seed = seed.ok_or_else(|| Error::Key {
        path: folder.path_of(SECRET),
        what: "is no key: 32 bytes in base64",
    })?;
    let secret = SigningKey::from_bytes(&seed);
    let mut public = parse_list(listed)?;
    let is_own = |key: &PublicKey| PublicKey::new(&key.name, secret.verifying_key()) == *key;
    let at = public.iter().position(is_own);
    public.truncate(at.ok_or_else(|| unlisted(folder))? + 1);
    Ok((secret, public))
}

fn unlisted(folder: &Folder) -> Error {
    Error::Key {
        path: folder.path_of(SECRET),
        what: "is not among the keys of audit.pub",
    }
}

/// The list first: a secret that is not in it would sign what nobody can verify.
fn write(folder: &Folder, list: &[u8], secret: &SigningKey) -> Result<(), Error> {
    folder.replace(PUBLIC, list, true)?;
    let secret = format!("{}\n", base64(secret.as_bytes()));
    folder.replace(SECRET, secret.as_bytes(), true)
}

pub(crate) fn fresh() -> Result<SigningKey, Error> {
    let mut seed = [0; 32];
    random(&mut seed)?;
    Ok(SigningKey::from_bytes(&seed))
}

fn handed_over(to: &PublicKey) -> String {
    format!("{HANDING_OVER}{to}\n")
}

/// Reads a list of public keys (`audit.pub`): each after the first was signed by the one before
/// it, so that pinning the first is enough.
///
/// # Errors
/// When a line is no key, or was not signed by the one before it.
pub fn parse_list(list: &[u8]) -> Result<Vec<PublicKey>, Error> {
    let what = "a list of public keys has one per line, each signed by the one before it";
    let wrong = || Error::Malformed { what };
    let text = std::str::from_utf8(list).map_err(|_| wrong())?;
    let mut keys: Vec<PublicKey> = Vec::new();
    for line in text.lines() {
        let (key, signature) = line.split_once(' ').unwrap_or((line, ""));
        let key = PublicKey::parse(key)?;
        if let Some(last) = keys.last()
            && !last.verifies(handed_over(&key).as_bytes(), signature)
        {
            return Err(wrong());
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(wrong());
    }
    Ok(keys)
}

/// The list of public keys in a folder of keys.
///
/// # Errors
/// When there is none, or it does not hold.
pub fn read_list(dir: &Path) -> Result<Vec<PublicKey>, Error> {
    let list = Folder::open(dir)?.read(PUBLIC)?;
    parse_list(&list.unwrap_or_default())
}

pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Error> {
    let wanted = bytes.len();
    match getrandom(bytes, GetRandomFlags::empty()) {
        Ok(got) if got == wanted => Ok(()),
        Ok(_) => Err(Error::io("getrandom")(
            std::io::ErrorKind::UnexpectedEof.into(),
        )),
        Err(errno) => Err(Error::io("getrandom")(errno.into())),
    }
}
