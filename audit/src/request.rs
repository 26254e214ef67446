//! What a witness is asked: the body of C2SP's `add-checkpoint`. By standard input and output any way of
//! getting there will do.

use crate::error::Error;
use crate::text::{base64, unbase64};
use crate::tree::Hash;

/// No proof of a tree of less than 2⁶⁴ leaves has more lines, as C2SP counts them.
const PROOF_MAX: usize = 63;

/// No request is longer: the proof, three lines, and a few signatures.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// From where the log thinks that the witness is, the proof from there, and the head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub(crate) old: u64,
    pub(crate) proof: Vec<Hash>,
    pub(crate) note: &'a str,
}

impl<'a> Request<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Error> {
        let parse = || {
            let (head, note) = text.split_once("\n\n")?;
            let mut lines = head.split('\n');
            let spelled = lines.next()?.strip_prefix("old ")?;
            let old: u64 = spelled.parse().ok()?;
            let hash = |line| Hash::try_from(unbase64(line)?).ok();
            let proof: Vec<Hash> = lines.map(hash).collect::<Option<_>>()?;
            let well = old.to_string() == spelled && proof.len() <= PROOF_MAX;
            let well = well && text.len() <= REQUEST_BYTES_MAX;
            well.then_some(Self { old, proof, note })
        };
        let what = "no add-checkpoint request: `old N`, a consistency proof in base64, a blank line, a checkpoint (`audit offer` prints one)";
        parse().ok_or(Error::Malformed { what })
    }
}

impl std::fmt::Display for Request<'_> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(to, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(to, "{}", base64(hash))?;
        }
        write!(to, "\n{}", self.note)
    }
}
