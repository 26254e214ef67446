//! Whether somebody set the wall clock: what policies call the time, and no measure of how long something is.

use std::time::Duration;

/// Less than this is a clock that is steered, or one that was read late.
const JUMP_MS: u64 = 1_000;

/// What both clocks said the last time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WallClock {
    last: Option<(u64, Duration)>,
}

impl WallClock {
    /// By how many milliseconds the wall clock was set since the last time, held against one that nobody sets.
    pub(super) fn jump(&mut self, wall: u64, steady: Duration) -> i64 {
        let (then, since) = self.last.replace((wall, steady)).unwrap_or((wall, steady));
        let passed = u64::try_from(steady.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
        let expected = then.saturating_add(passed);
        match wall.abs_diff(expected) {
            ..JUMP_MS => 0,
            by => {
                let by = i64::try_from(by).unwrap_or(i64::MAX);
                if wall < expected { -by } else { by }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_goes() {
        let mut clock = WallClock::default();
        let mut at = |wall, steady| clock.jump(wall, Duration::from_millis(steady));
        assert_eq!(at(1_800_000_000_000, 5_000), 0, "the first");
        assert_eq!(at(1_800_000_060_000, 65_000), 0, "a minute later");
        assert_eq!(at(1_800_000_060_900, 65_010), 0, "steered");
        assert_eq!(at(1_799_996_460_900, 65_010), -3_600_000, "an hour back");
        assert_eq!(at(1_799_996_461_000, 65_110), 0, "and on from there");
        assert_eq!(
            at(4_000_000_000_000, 65_110),
            2_200_003_539_000,
            "far ahead"
        );
        assert_eq!(at(0, 65_110), -4_000_000_000_000, "1970");
        assert_eq!(at(u64::MAX, 0), i64::MAX, "nonsense");
    }
}
