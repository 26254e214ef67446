//! From a file to a policy, in whichever of the three languages it is written.

use yaml::{Bounds, Entry, Error, Node, Span, Value, is_null, nearest, shorten};

use crate::{Combine, Policy, Verdict};

/// A policy of ten thousand rules fits.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) const BOUNDS: Bounds = Bounds {
    bytes: FILE_BYTES_MAX,
    size: "4 MiB",
    depth: 16,
    nodes: 512 * 1024,
    keys: 1024,
    empty: "write at least version, name and rules",
    example: "see the example in docs/policy.md",
};

/// What `${…}` stands for in paths.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `${workspace}`: the agent's, resolved.
    pub workspace: Option<String>,
}

impl Policy {
    /// Reads a policy. `file` is its name in messages.
    ///
    /// # Errors
    /// The first thing that is wrong with it, with its place and what to write instead.
    pub fn parse(file: &str, bytes: &[u8], variables: &Variables) -> Result<Policy, crate::Error> {
        let root = yaml::parse(file, bytes, &BOUNDS)?;
        let source = Source { file, variables };
        let map = source.map(&root)?;
        if map.iter().any(|entry| entry.key == "apiVersion") {
            return Ok(crate::dialect::toolkit_v1(&source, &root)?);
        }
        Ok(match condition(map) {
            Some(Value::Map(_)) => crate::dialect::policy_document(&source, &root)?,
            Some(_) => crate::dialect::toolkit_v1(&source, &root)?,
            None => crate::native::policy(&source, &root)?,
        })
    }
}

/// The first `condition` of a rule, which only the toolkit's have.
fn condition(map: &[Entry]) -> Option<&Value> {
    let rules = map.iter().find(|entry| entry.key == "rules")?;
    let Value::List(rules) = &rules.node.value else {
        return None;
    };
    let entries = rules.iter().filter_map(|rule| match &rule.value {
        Value::Map(entries) => Some(entries),
        Value::Scalar { .. } | Value::List(_) => None,
    });
    let mut entries = entries.flatten();
    entries
        .find(|entry| entry.key == "condition")
        .map(|entry| &entry.node.value)
}

/// A file being read.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    pub(crate) variables: &'a Variables,
}

pub(crate) type Read<T> = Result<T, Error>;

impl Source<'_> {
    pub(crate) fn wrong<T>(
        &self,
        span: Span,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Read<T> {
        Err(Error::wrong(self.file, span, what, remedy))
    }

    pub(crate) fn map<'n>(&self, node: &'n Node) -> Read<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => Ok(entries),
            Value::Scalar { .. } | Value::List(_) => {
                self.wrong(node.span, format!("this is {}", node.kind()), "write a map")
            }
        }
    }

    /// A map whose keys are all known.
    pub(crate) fn keys<'n>(&self, node: &'n Node, known: &[&str]) -> Read<Keys<'n>> {
        let entries = self.map(node)?;
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                let remedy = match nearest(&entry.key, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", known.join(", ")),
                };
                let what = format!("there is no key `{}` here", shorten(&entry.key));
                return self.wrong(entry.span, what, remedy);
            }
        }
        Ok(Keys {
            span: node.span,
            entries,
        })
    }

    pub(crate) fn text<'n>(&self, node: &'n Node) -> Read<&'n str> {
        match &node.value {
            Value::Scalar { text, plain } if !(*plain && is_null(text)) => Ok(text),
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => self.wrong(
                node.span,
                format!("this is {}", node.kind()),
                "write one text",
            ),
        }
    }

    pub(crate) fn boxed(&self, node: Option<&Node>) -> Read<Option<Box<str>>> {
        node.map(|node| self.text(node).map(|text| text.trim_end().into()))
            .transpose()
    }

    /// One text, or a list of them.
    pub(crate) fn texts<'n>(&self, node: &'n Node) -> Read<Vec<(&'n str, Span)>> {
        match &node.value {
            Value::List(items) if items.is_empty() => self.wrong(
                node.span,
                "this list is empty",
                "write at least one, or leave the key out",
            ),
            Value::List(items) => items
                .iter()
                .map(|item| Ok((self.text(item)?, item.span)))
                .collect(),
            Value::Scalar { .. } | Value::Map(_) => Ok(vec![(self.text(node)?, node.span)]),
        }
    }

    pub(crate) fn list<'n>(&self, node: &'n Node) -> Read<&'n [Node]> {
        match &node.value {
            Value::List(items) => Ok(items),
            Value::Scalar { .. } | Value::Map(_) => self.wrong(
                node.span,
                format!("this is {}", node.kind()),
                "write a list",
            ),
        }
    }

    pub(crate) fn whole(&self, node: &Node) -> Read<i64> {
        let text = self.text(node)?;
        match text.parse() {
            Ok(number) => Ok(number),
            Err(_) => {
                let what = format!("`{}` is not a whole number", shorten(text));
                self.wrong(node.span, what, "write one, such as 100")
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, node: &Node, words: &[(&str, T)]) -> Read<T> {
        let text = self.text(node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let what = format!("`{}` is none of {}", shorten(text), names.join(", "));
        let remedy = nearest(text, &names).map_or_else(
            || "write one of them".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        self.wrong(node.span, what, remedy)
    }
}

pub(crate) const VERDICTS: [(&str, Verdict); 4] = [
    ("allow", Verdict::Allow),
    ("audit", Verdict::Audit),
    ("deny", Verdict::Deny),
    ("escalate", Verdict::Escalate),
];

pub(crate) const COMBINES: [(&str, Combine); 4] = [
    ("deny-overrides", Combine::DenyOverrides),
    ("first-match", Combine::FirstMatch),
    ("priority", Combine::Priority),
    ("most-specific", Combine::MostSpecific),
];

/// A map whose keys were checked.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'n> {
    pub(crate) span: Span,
    pub(crate) entries: &'n [Entry],
}

impl<'n> Keys<'n> {
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    pub(crate) fn need(&self, source: &Source<'_>, key: &str) -> Read<&'n Node> {
        match self.get(key) {
            Some(node) => Ok(node),
            None => source.wrong(
                self.span,
                format!("`{key}` is missing"),
                format!("write {key}: …"),
            ),
        }
    }
}

/// A name stands in messages, records and the keys of limits.
pub(crate) fn name(source: &Source<'_>, node: &Node) -> Read<Box<str>> {
    let text = source.text(node)?;
    let plain = |c: char| !c.is_control();
    if text.is_empty() || text.chars().count() > 200 || !text.chars().all(plain) {
        return source.wrong(node.span, "this is no name", "write at most 200 characters");
    }
    Ok(text.into())
}

/// Names of rules, each once.
pub(crate) fn once(source: &Source<'_>, rules: &[crate::Rule]) -> Read<()> {
    let mut seen = std::collections::HashMap::new();
    for rule in rules {
        if let Some(line) = seen.insert(&rule.name, rule.span.line) {
            let what = format!("there is a rule `{}` in line {line}", shorten(&rule.name));
            return source.wrong(rule.span, what, "give it another name");
        }
    }
    Ok(())
}
