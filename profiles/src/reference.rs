//! References and JSON Schemas, printed from the key tables so that they cannot go stale.

use std::fmt::Write;

use crate::shape::{AGENT, Key, PROBES, RING, Shape};

/// docs/agent-yaml.md.
#[must_use]
pub fn agent_markdown() -> String {
    markdown(
        "agent.yaml",
        "What an agent may do. Unknown and duplicate keys, aliases, tags and files over 64 KiB are \
         refused with their place. Relative paths are relative to the file. Sizes are written \
         `512M`, `4G`; durations `500ms`, `5s`, `2m`, `1h`.",
        AGENT,
    )
}

/// docs/ring-yaml.md.
#[must_use]
pub fn ring_markdown() -> String {
    markdown(
        "Ring profiles",
        "Files in `/etc/agt/rings.d/*.yaml`, each a ring that agents can ask for by name. Every \
         folder down to it must belong to root and be writable by nobody else; one bad file stops \
         every start.",
        RING,
    )
}

fn markdown(title: &str, intro: &str, keys: &[Key]) -> String {
    let mut out = format!(
        "# {title}\n\n<!-- generated: AGT_WRITE_DOCS=1 cargo test -p agt-profiles -->\n\n{intro}\n\n"
    );
    out.push_str("| key | takes | default | example | |\n|---|---|---|---|---|\n");
    rows(&mut out, "", keys);
    out
}

fn rows(out: &mut String, within: &str, keys: &[Key]) {
    for key in keys {
        let Key {
            name,
            default,
            example,
            doc,
            ..
        } = key;
        let takes = takes(key);
        // Writing to a String cannot fail.
        let _always = writeln!(
            out,
            "| `{within}{name}` | {takes} | {default} | `{}` | {doc} |",
            example.replace('|', "\\|")
        );
        if let Shape::Object(keys) = key.shape {
            rows(out, &format!("{within}{name}."), keys);
        }
    }
}

fn takes(key: &Key) -> String {
    let text = match key.shape {
        Shape::Version => "1".into(),
        Shape::Name => "a name".into(),
        Shape::Text => "text".into(),
        Shape::Words(words) => words.join(" or "),
        Shape::Count { min, max } => format!("{min} to {max}"),
        Shape::Size => "a size".into(),
        Shape::Duration => "a duration".into(),
        Shape::Cpu => "a number of processors".into(),
        Shape::Cost => "an amount".into(),
        Shape::Texts => "a list".into(),
        Shape::TextMap => "a map of texts".into(),
        Shape::Probes => format!("a list of maps of one key: {}", PROBES.join(", ")),
        Shape::Object(_) => "a map".into(),
    };
    if key.or_none {
        format!("{text}, or none")
    } else {
        text
    }
}

/// The JSON Schema (draft-07, which YAML language servers read) of agent.yaml.
#[must_use]
pub fn agent_schema() -> String {
    schema("agent.yaml", AGENT, &["version", "name", "command"])
}

/// The JSON Schema of ring profiles.
#[must_use]
pub fn ring_schema() -> String {
    schema("ring profile", RING, &["version", "name", "extends"])
}

fn schema(title: &str, keys: &[Key], required: &[&str]) -> String {
    let required: Vec<String> = required.iter().map(|name| quote(name)).collect();
    format!(
        "{{\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\",\n  \"title\": {},\n  \
         \"type\": \"object\",\n  \"required\": [{}],\n  \"additionalProperties\": false,\n  \
         \"properties\": {}\n}}\n",
        quote(title),
        required.join(", "),
        properties(keys, "  ")
    )
}

fn properties(keys: &[Key], indent: &str) -> String {
    let one = |key: &Key| {
        let body = body(key, indent);
        format!(
            "{indent}  {}: {{\"description\": {}, {body}}}",
            quote(key.name),
            quote(key.doc)
        )
    };
    let all: Vec<String> = keys.iter().map(one).collect();
    format!("{{\n{}\n{indent}}}", all.join(",\n"))
}

fn body(key: &Key, indent: &str) -> String {
    let pattern = |pattern: &str| {
        let none = if key.or_none { "|none" } else { "" };
        format!(
            "\"type\": [\"string\", \"integer\", \"number\"], \"pattern\": {}",
            quote(&format!("^({pattern}{none})$"))
        )
    };
    match key.shape {
        Shape::Version => "\"const\": 1".into(),
        Shape::Name => format!("\"type\": \"string\", \"pattern\": {}", quote("^[a-z0-9][a-z0-9-]{0,62}$")),
        Shape::Text => "\"type\": [\"string\", \"integer\"]".into(),
        Shape::Words(words) => {
            let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
            format!("\"enum\": [{}]", words.join(", "))
        }
        Shape::Count { min, max } => {
            format!("\"type\": \"integer\", \"minimum\": {min}, \"maximum\": {max}")
        }
        Shape::Size => pattern("[0-9]+[KMGT]?"),
        Shape::Duration => pattern("[0-9]+(ms|s|m|h)"),
        Shape::Cpu => pattern("[0-9]+(\\.[0-9]{1,3})?"),
        Shape::Cost => pattern("[0-9]+(\\.[0-9]{1,6})?"),
        Shape::Texts => {
            "\"type\": \"array\", \"items\": {\"type\": [\"string\", \"number\", \"boolean\"]}".into()
        }
        Shape::TextMap => {
            "\"type\": \"object\", \"additionalProperties\": {\"type\": [\"string\", \"number\", \"boolean\"]}".into()
        }
        Shape::Probes => {
            let keys: Vec<String> =
                PROBES.iter().map(|name| format!("{}: {{\"type\": \"string\"}}", quote(name))).collect();
            format!(
                "\"type\": \"array\", \"items\": {{\"type\": \"object\", \"maxProperties\": 1, \
                 \"minProperties\": 1, \"additionalProperties\": false, \"properties\": {{{}}}}}",
                keys.join(", ")
            )
        }
        Shape::Object(keys) => {
            let inner = format!("{indent}  ");
            format!(
                "\"type\": \"object\", \"additionalProperties\": false, \"properties\": {}",
                properties(keys, &inner)
            )
        }
    }
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
