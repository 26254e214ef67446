//! Named starting points for agents that people run, as files in `profiles/presets`.

/// Each by its name, with the text of its file.
pub(crate) const ALL: &[(&str, &str)] = &[
    ("claude-code", include_str!("../presets/claude-code.yaml")),
    ("codex", include_str!("../presets/codex.yaml")),
    ("node-agent", include_str!("../presets/node-agent.yaml")),
    ("python-agent", include_str!("../presets/python-agent.yaml")),
    ("shell", include_str!("../presets/shell.yaml")),
];

pub(crate) fn find(name: &str) -> Option<(&'static str, &'static str)> {
    ALL.iter().copied().find(|(known, _)| *known == name)
}

/// Names and texts of the presets.
#[must_use]
pub fn presets() -> &'static [(&'static str, &'static str)] {
    ALL
}
