//! The address of a name as programs in a ring find it: one question to the nameserver of its
//! resolv.conf (RFC 1035). A static program has no other resolver.

use std::io::{self, Error};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(5);
/// An answer over UDP without extensions.
const ANSWER_MAX: usize = 512;
const ID: u16 = 0x4147;

/// The IPv4 addresses of a name.
pub(super) fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    if name == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let text = std::fs::read_to_string("/etc/resolv.conf")?;
    let server = |line: &str| {
        line.strip_prefix("nameserver ")?
            .trim()
            .parse::<IpAddr>()
            .ok()
    };
    let none = || Error::other("no nameserver: this ring has no network");
    let server = text.lines().find_map(server).ok_or_else(none)?;
    let local = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(local)?;
    socket.set_read_timeout(Some(WITHIN))?;
    socket.connect((server, 53))?;
    socket.send(&question(name)?)?;
    let mut buffer = [0; ANSWER_MAX];
    let length = socket.recv(&mut buffer)?;
    answer(buffer.get(..length).unwrap_or_default())
}

fn question(name: &str) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    // Recursion desired, one question.
    for word in [ID, 0x0100, 1, 0, 0, 0] {
        out.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..64).contains(length));
        out.push(length.ok_or_else(|| Error::other("this is no name"))?);
        out.extend(label.as_bytes());
    }
    // The root, type A, class IN.
    out.extend([0, 0, 1, 0, 1]);
    Ok(out)
}

fn answer(message: &[u8]) -> io::Result<Vec<IpAddr>> {
    let odd = || Error::other("the nameserver's answer is not understood");
    let mut reader = Reader(message);
    let [id, flags, questions, answers] = [(); 4].map(|()| reader.word());
    let (_, _) = (reader.word(), reader.word());
    if id != Some(ID) {
        return Err(odd());
    }
    match flags.ok_or_else(odd)? & 15 {
        0 => {}
        3 => return Err(Error::other("there is no such name")),
        5 => return Err(Error::other("the nameserver refuses this name")),
        code => return Err(Error::other(format!("the nameserver answers error {code}"))),
    }
    for _ in 0..questions.ok_or_else(odd)? {
        reader
            .name()
            .and_then(|()| reader.take(4))
            .ok_or_else(odd)?;
    }
    let mut found = Vec::new();
    for _ in 0..answers.ok_or_else(odd)? {
        reader.name().ok_or_else(odd)?;
        let kind = reader.word().ok_or_else(odd)?;
        reader.take(6).ok_or_else(odd)?;
        let length = reader.word().ok_or_else(odd)?;
        let data = reader.take(usize::from(length)).ok_or_else(odd)?;
        if let (1, [a, b, c, d]) = (kind, data) {
            found.push(Ipv4Addr::new(*a, *b, *c, *d).into());
        }
    }
    if found.is_empty() {
        return Err(Error::other("it has no address"));
    }
    Ok(found)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn word(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }

    /// Passes over a name; a pointer ends it.
    fn name(&mut self) -> Option<()> {
        loop {
            let length = *self.take(1)?.first()?;
            match length {
                0 => return Some(()),
                192.. => return self.take(1).map(drop),
                1..64 => drop(self.take(usize::from(length))?),
                64..192 => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let mut message = question("api.example.com").unwrap();
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = 2;
        // An alias, then an address, both for the name at byte 12.
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 198, 18, 1, 0]);
        let address: IpAddr = "198.18.1.0".parse().unwrap();
        assert_eq!(answer(&message).unwrap(), [address]);
        for length in 0..message.len() {
            assert!(answer(&message[..length]).is_err(), "{length}");
        }
        message[3] = 0x85;
        assert!(
            answer(&message)
                .unwrap_err()
                .to_string()
                .contains("refuses")
        );
    }
}
