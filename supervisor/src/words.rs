//! Numbers and names as people read them.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

/// `512M`, `4G`, `1.5G`: the units that agent.yaml takes.
pub(crate) fn bytes(bytes: u64) -> String {
    for (unit, name) in [
        (1_u64 << 40, "T"),
        (1 << 30, "G"),
        (1 << 20, "M"),
        (1 << 10, "K"),
    ] {
        if bytes >= unit {
            let (whole, tenth) = (bytes / unit, bytes % unit * 10 / unit);
            return if tenth == 0 {
                format!("{whole}{name}")
            } else {
                format!("{whole}.{tenth}{name}")
            };
        }
    }
    format!("{bytes} bytes")
}

/// `350 ms`, `4.2 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn duration(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    match seconds {
        0 if millis == 0 => "0 ms".into(),
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `1 file`, `3 files`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// The name of a signal.
pub(crate) fn signal(number: i32) -> String {
    const NAMES: [&str; 32] = [
        "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU",
        "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::try_from(number)
        .ok()
        .and_then(|number| NAMES.get(number))
    {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

/// Text from an agent or a file name, with what could drive a terminal, or is not to be seen, written out. A
/// backslash is two: what looks like such a sign is none.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char == '\\' {
            out.push_str("\\\\");
        } else if audit::hidden(char) {
            // Writing to a String cannot fail.
            let _always = write!(out, "\\u{{{:x}}}", u32::from(char));
        } else {
            out.push(char);
        }
    }
    out
}

/// JSON as it may be printed, and read again as the same: what is not to be seen is `\uXXXX`.
pub(crate) fn json(value: &Value) -> String {
    let text = format!("{value:#}");
    let lines: Vec<String> = text
        .lines()
        .map(|line| audit::shown(line.as_bytes()))
        .collect();
    lines.join("\n")
}

/// A kernel error in the words of errno(3), with its name.
pub(crate) fn errno(number: i32) -> String {
    std::io::Error::from_raw_os_error(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(bytes(4 << 30), "4G");
        assert_eq!(bytes((1 << 20) * 3 / 2), "1.5M");
        assert_eq!(bytes(12), "12 bytes");
        assert_eq!(duration(Duration::from_millis(4250)), "4.2 s");
        assert_eq!(duration(Duration::from_secs(7500)), "2 h 5 min");
        assert_eq!(signal(15), "SIGTERM");
        assert_eq!(escape("a\u{1b}[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
    }

    #[test]
    fn nothing_is_there_that_is_not_to_be_seen() {
        for hidden in [
            '\u{7f}',
            '\u{9b}',
            '\u{61c}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0001}',
            '\u{e007f}',
            '\u{ad}',
        ] {
            let text = format!("a{hidden}b");
            assert_eq!(escape(&text), format!("a\\u{{{:x}}}b", u32::from(hidden)));
            let value = serde_json::json!({"x": [text, "\n"]});
            let shown = json(&value);
            assert!(shown.is_ascii(), "{shown}");
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }
        assert_eq!(escape("a\\u{9b}"), "a\\\\u{9b}");
    }
}
