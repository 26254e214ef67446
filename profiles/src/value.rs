//! Single values: sizes, durations, counts, layers.

use std::time::Duration;

use crate::node::Span;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// `file:line` of it.
    pub origin: String,
    /// Its place.
    pub span: Span,
}

impl<T> At<T> {
    /// The file that it was written in: an agent's own, or its preset's.
    pub(crate) fn file(&self) -> &str {
        self.origin.rsplit_once(':').map_or("", |(file, _)| file)
    }

    /// Another value from the same place.
    pub(crate) fn map<U>(self, with: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: with(self.value),
            origin: self.origin,
            span: self.span,
        }
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Milliseconds(pub u64);

impl From<Milliseconds> for Duration {
    fn from(time: Milliseconds) -> Self {
        Duration::from_millis(time.0)
    }
}

/// A home of the agent's own, in the order of how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// None: HOME is /tmp.
    None,
    /// Empty, and gone with the run.
    Temporary,
    /// Kept between the runs of the same agent.
    Private,
}

impl Home {
    pub(crate) const ALL: [Home; 3] = [Home::None, Home::Temporary, Home::Private];

    /// The word that files use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Home::None => "none",
            Home::Temporary => "temporary",
            Home::Private => "private",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|home| home.name() == text)
    }
}

/// How a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It is frozen until somebody says go.
    Freeze,
    /// By SIGTERM first.
    Term,
    /// At once.
    Kill,
}

/// What becomes of a run in which something happens again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// So many times.
    pub count: u64,
    /// Within this time.
    pub within: Milliseconds,
    /// Stop it so.
    pub stop: Stop,
}

impl std::fmt::Display for Reaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stop = match self.stop {
            Stop::Freeze => "freeze",
            Stop::Term => "term",
            Stop::Kill => "kill",
        };
        let (count, within) = (self.count, self.within.0);
        write!(f, "{{count: {count}, within: {within}ms, do: {stop}}}")
    }
}

impl Reaction {
    /// Whether it stops a run whenever the other does, and as hard.
    #[must_use]
    pub fn is_as_strict_as(&self, other: &Self) -> bool {
        self.count <= other.count && self.within >= other.within && self.stop >= other.stop
    }
}

/// Millionths of whatever unit a cost is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millionths(pub u64);

/// Thousandths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuMillis(pub u32);

/// A layer that may be missing on a host, where agent.yaml names it and the ring permits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Landlock as a whole.
    Landlock,
    /// Landlock's TCP rules (Linux 6.7).
    LandlockTcp,
    /// Landlock's scopes for signals and abstract sockets (Linux 6.12).
    LandlockScopes,
    /// A limit on CPU time, which needs a cgroup.
    CpuLimit,
}

impl Layer {
    /// All of them.
    pub const ALL: [Layer; 4] = [
        Layer::Landlock,
        Layer::LandlockTcp,
        Layer::LandlockScopes,
        Layer::CpuLimit,
    ];

    /// The name that files use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Layer::Landlock => "landlock",
            Layer::LandlockTcp => "landlock-tcp",
            Layer::LandlockScopes => "landlock-scopes",
            Layer::CpuLimit => "cpu-limit",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == text)
    }
}

/// `512M`, `4G`, plain bytes; `None` when it is no size.
pub(crate) fn size(text: &str) -> Option<Bytes> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) => (digits, text.chars().last()?),
        None => (text, 'B'),
    };
    let shift = match unit {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let number = decimal(digits)?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0 && *bytes <= 1 << 62)
        .map(Bytes)
}

/// `500ms`, `5s`, `2m`, `1h`; `None` when it is no duration.
pub(crate) fn duration(text: &str) -> Option<Milliseconds> {
    let parts = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let (digits, factor) = parts
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    let number = decimal(digits)?;
    number
        .checked_mul(factor)
        .filter(|ms| *ms <= 1000 * 24 * 3_600_000)
        .map(Milliseconds)
}

/// `2`, `0.5`: processors, to a thousandth; `None` when it is no such number.
pub(crate) fn cpu(text: &str) -> Option<CpuMillis> {
    let millis = fixed(text, 3)?;
    u32::try_from(millis)
        .ok()
        .filter(|millis| (10..=1_000_000).contains(millis))
        .map(CpuMillis)
}

/// `2.50`: a cost, to a millionth; `None` when it is no such number, or nothing.
pub(crate) fn cost(text: &str) -> Option<Millionths> {
    fixed(text, 6).filter(|cost| *cost > 0).map(Millionths)
}

/// A number with at most so many decimals, in units of the last of them.
fn fixed(text: &str, decimals: u32) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let missing = decimals.checked_sub(u32::try_from(part.len()).ok()?)?;
    let part = decimal(part)?.checked_mul(10_u64.pow(missing))?;
    let whole = decimal(whole)?.checked_mul(10_u64.pow(decimals))?;
    whole.checked_add(part)
}

/// Digits only: no sign, no spaces, no underscores.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// As files write it.
pub(crate) fn bytes_text(bytes: Bytes) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes.0 >= 1 << shift && bytes.0.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes.0 >> shift);
        }
    }
    bytes.0.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_durations_and_processors() {
        assert_eq!(size("4G"), Some(Bytes(4 << 30)));
        assert_eq!(size("12"), Some(Bytes(12)));
        for wrong in [
            "",
            "G",
            "-1",
            "4g",
            "1.5G",
            "4 G",
            "0",
            "99999999999T",
            "0x10",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        assert_eq!(duration("500ms"), Some(Milliseconds(500)));
        assert_eq!(duration("2m"), Some(Milliseconds(120_000)));
        for wrong in ["", "5", "s", "5 s", "-5s", "99999999999h", "1.5s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(cpu("0.5"), Some(CpuMillis(500)));
        assert_eq!(cpu("2"), Some(CpuMillis(2000)));
        assert_eq!(cost("2.50"), Some(Millionths(2_500_000)));
        for wrong in ["0", "1.0000001", "-1", "1.", "", "99999999999999999999"] {
            assert_eq!(cost(wrong), None, "{wrong}");
        }
        for wrong in ["", ".", "0", "0.001", "1.2345", "1.", "x", "-1"] {
            assert_eq!(cpu(wrong), None, "{wrong}");
        }
        assert_eq!(bytes_text(Bytes(512 << 20)), "512M");
    }
}
