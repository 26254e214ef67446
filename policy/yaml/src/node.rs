//! YAML text to a tree in which every node knows its place.
//!
//! The parser is a library's; what it may give us is bounded here. Aliases are refused, so that a
//! small file cannot stand for a large one, and so are tags, which would name types.

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::error::Error;
use crate::words::shorten;

/// How much a file may hold, and what to say when it does not hold what it should.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A longer file is refused unread: parsing is work that anybody's file can make us do.
    pub bytes: usize,
    /// `bytes` in words.
    pub size: &'static str,
    /// Nesting.
    pub depth: usize,
    /// Values and keys.
    pub nodes: usize,
    /// Keys of one map, which are compared with each other.
    pub keys: usize,
    /// What an empty file is told.
    pub empty: &'static str,
    /// Where to find an example.
    pub example: &'static str,
}

/// A place in a file, counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// What a node can be.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text; `plain` when it was not quoted, so that `null` and `~` can be told from words.
    Scalar {
        /// As it was written, escapes resolved.
        text: String,
        /// Not quoted.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order, each key once.
    Map(Vec<Entry>),
}

/// One key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub span: Span,
    /// The value.
    pub node: Node,
}

impl Node {
    /// What it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { text, plain: true } if is_null(text) => "empty",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Whether an unquoted word stands for nothing.
#[must_use]
pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Parses one document.
///
/// # Errors
/// The first thing that is wrong with it, and whatever goes beyond the bounds.
pub fn parse(file: &str, bytes: &[u8], bounds: &Bounds) -> Result<Node, Error> {
    let whole = |what: String, remedy: &str| {
        Err(Error::File {
            file: file.into(),
            what,
            remedy: remedy.into(),
        })
    };
    if bytes.len() > bounds.bytes {
        return whole(
            format!("it is larger than {}", bounds.size),
            "write only what is needed",
        );
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            return whole(format!("line {line} is not UTF-8"), "save it as UTF-8");
        }
    };
    if let Some(at) = text.bytes().position(|byte| byte == 0) {
        let line = text.get(..at).unwrap_or("").matches('\n').count() + 1;
        return whole(format!("line {line} holds a NUL byte"), "remove it");
    }
    let mut tree = Tree {
        file,
        bounds,
        parser: Parser::new_from_str(text),
        nodes: 0,
    };
    let root = tree.document()?;
    match root {
        Some(node) if node.kind() != "empty" => Ok(node),
        _ => whole("it is empty".into(), bounds.empty),
    }
}

struct Tree<'a> {
    file: &'a str,
    bounds: &'a Bounds,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    nodes: usize,
}

impl<'a> Tree<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Error> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((
                event,
                Span {
                    line: span.start.line(),
                    column: span.start.col() + 1,
                },
            )),
            Some(Err(error)) => {
                let at = error.marker();
                let span = Span {
                    line: at.line(),
                    column: at.col() + 1,
                };
                let what = format!("this is not YAML: {}", error.info());
                Err(Error::wrong(self.file, span, what, self.bounds.example))
            }
            None => Ok((Event::StreamEnd, Span { line: 1, column: 1 })),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Error> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    let what = "a second document begins here";
                    return Err(Error::wrong(
                        self.file,
                        span,
                        what,
                        "one file holds one document",
                    ));
                }
                event @ (Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd) => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Error> {
        self.nodes += 1;
        if depth > self.bounds.depth || self.nodes > self.bounds.nodes {
            let what = "this is nested deeper, or holds more, than any file needs";
            return Err(Error::wrong(
                self.file,
                span,
                what,
                "write it flatter and shorter",
            ));
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse(span, anchor, tag.is_some())?;
                // The bytes of the file hold none, but a quoted scalar may spell one: "\0".
                if text.contains('\0') {
                    let what = "this text holds a NUL character (`\\0`)";
                    return Err(Error::wrong(self.file, span, what, "remove it"));
                }
                Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                }
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse(span, anchor, tag.is_some())?;
                self.list(depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(span, anchor, tag.is_some())?;
                self.map(depth)?
            }
            Event::Alias(_) => {
                return Err(Error::wrong(
                    self.file,
                    span,
                    "aliases (`*name`) are not taken",
                    "write the value out",
                ));
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(Error::wrong(
                    self.file,
                    span,
                    "the document ends inside a value",
                    "complete it",
                ));
            }
        };
        Ok(Node { span, value })
    }

    fn refuse(&self, span: Span, anchor: usize, tagged: bool) -> Result<(), Error> {
        let refuse = |what| Err(Error::wrong(self.file, span, what, "write the plain value"));
        if anchor != 0 {
            return refuse("anchors (`&name`) are not taken");
        }
        if tagged {
            refuse("tags (`!name`) are not taken")
        } else {
            Ok(())
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Error> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let Value::Scalar { text: key, .. } = self.node(event, span, depth + 1)?.value else {
                return Err(Error::wrong(
                    self.file,
                    span,
                    "this key is not a word",
                    "use a word",
                ));
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let (key, line) = (shorten(&key), first.span.line);
                let what = format!("`{key}` was already given in line {line}");
                return Err(Error::wrong(self.file, span, what, "keep one of them"));
            }
            if entries.len() >= self.bounds.keys {
                let what = "this map has more keys than any file needs";
                return Err(Error::wrong(self.file, span, what, "write fewer"));
            }
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            entries.push(Entry { key, span, node });
        }
    }
}
