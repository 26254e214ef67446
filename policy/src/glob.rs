//! Patterns over texts and paths, matched in time bounded by their lengths and without memory.

use std::fmt;

/// What a pattern is about decides how far `*` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// `*` is any text.
    Text,
    /// `*` stays within a segment, `**` goes over any number of them.
    Path,
}

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Text(Box<str>),
    /// Any bytes but `/`.
    Segment,
    /// Any bytes.
    Any,
    /// `**/`: nothing, or anything that ends in `/`. Comes after a `/` only.
    Folders,
    /// `/**` at the end: nothing, or `/` and anything. The folder itself is meant too.
    Tree,
}

/// A pattern with at least one wildcard.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    source: Box<str>,
    pieces: Box<[Piece]>,
}

impl Glob {
    /// Parses a pattern. What `*` could not be taken for is literal.
    #[must_use]
    pub fn parse(source: &str, over: Over) -> Self {
        let pieces = match over {
            Over::Text => texts(source),
            Over::Path => paths(source),
        };
        Self {
            source: source.into(),
            pieces: pieces.into(),
        }
    }

    /// Its parts.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Whether it means this text.
    ///
    /// Two places to come back to are enough: what `Any` and `Folders` skip can be anything, so the
    /// shortest match of what is before them is as good as any other; and a `Segment` cannot leave
    /// its segment, where the same holds.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (pieces, text) = (&*self.pieces, text.as_bytes());
        let (mut piece, mut at) = (0, 0);
        let (mut near, mut far): (Option<Back>, Option<Back>) = (None, None);
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let fits = match pieces.get(piece) {
                None if rest.is_empty() => return true,
                None => false,
                Some(Piece::Tree) if rest.is_empty() || rest.starts_with(b"/") => return true,
                Some(Piece::Tree) => false,
                Some(Piece::Text(literal)) if rest.starts_with(literal.as_bytes()) => {
                    at += literal.len();
                    true
                }
                Some(Piece::Text(_)) => false,
                Some(Piece::Segment) => {
                    near = Some((piece, at));
                    true
                }
                Some(Piece::Any) if piece + 1 == pieces.len() => return true,
                Some(Piece::Any | Piece::Folders) => {
                    (near, far) = (None, Some((piece, at)));
                    true
                }
            };
            if fits {
                piece += 1;
            } else {
                let Some(next) = back(pieces, text, &mut near, &mut far) else {
                    return false;
                };
                (piece, at) = next;
            }
        }
    }
}

type Back = (usize, usize);

/// Lets the last wildcard that can take more take the least more.
fn back(
    pieces: &[Piece],
    text: &[u8],
    near: &mut Option<Back>,
    far: &mut Option<Back>,
) -> Option<Back> {
    if let Some((piece, at)) = near
        && text.get(*at).is_some_and(|byte| *byte != b'/')
    {
        *at += 1;
        return Some((*piece + 1, *at));
    }
    *near = None;
    let (piece, at) = far.as_mut()?;
    let rest = text.get(*at..).unwrap_or_default();
    let step = match pieces.get(*piece) {
        Some(Piece::Folders) => rest.iter().position(|byte| *byte == b'/')? + 1,
        _ if rest.is_empty() => return None,
        _ => 1,
    };
    *at += step;
    Some((*piece + 1, *at))
}

fn texts(source: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (index, part) in source.split('*').enumerate() {
        if index > 0 && pieces.last() != Some(&Piece::Any) {
            pieces.push(Piece::Any);
        }
        if !part.is_empty() {
            pieces.push(Piece::Text(part.into()));
        }
    }
    pieces
}

fn paths(source: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut literal, mut rest) = (String::new(), source);
    let flush = |literal: &mut String, pieces: &mut Vec<Piece>, piece: Piece| {
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(literal).into()));
        }
        // Wildcards side by side would each be a place to come back to.
        let same = pieces.last() == Some(&piece) && piece != Piece::Folders;
        if !same {
            pieces.push(piece);
        }
    };
    while let Some(c) = rest.chars().next() {
        if rest == "/**" {
            flush(&mut literal, &mut pieces, Piece::Tree);
            return pieces;
        }
        if let (true, Some(after)) = (literal.ends_with('/'), rest.strip_prefix("**/")) {
            flush(&mut literal, &mut pieces, Piece::Folders);
            rest = after;
            // `/**/**/` says no more than `/**/`.
            while let Some(after) = rest.strip_prefix("**/") {
                rest = after;
            }
        } else if let Some(after) = rest.strip_prefix("**") {
            flush(&mut literal, &mut pieces, Piece::Any);
            rest = after.trim_start_matches('*');
        } else if c == '*' {
            flush(&mut literal, &mut pieces, Piece::Segment);
            rest = rest.get(1..).unwrap_or_default();
        } else {
            literal.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal.into()));
    }
    pieces
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.source)
    }
}
