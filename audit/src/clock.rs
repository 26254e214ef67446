//! When: the wall clock as people read it, and the clock that never goes back, which decides.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
    pub(crate) mono_ns: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let wall = clock_gettime(ClockId::Realtime);
        let mono = clock_gettime(ClockId::Monotonic);
        let mono_ns = u64::try_from(mono.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(mono.tv_nsec).unwrap_or(0);
        Self {
            seconds: wall.tv_sec,
            nanos: u32::try_from(wall.tv_nsec).unwrap_or(0),
            mono_ns,
        }
    }

    /// The day in UTC, counted from 1970.
    pub(crate) const fn day(self) -> i64 {
        self.seconds.div_euclid(86_400)
    }
}

/// Writes moments as RFC 3339 in UTC; the part above the second is made once a second.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    second: Option<i64>,
    text: Vec<u8>,
}

impl Calendar {
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, moment: Moment) {
        if self.second != Some(moment.seconds) {
            self.second = Some(moment.seconds);
            self.text = civil(moment.seconds).into_bytes();
        }
        out.extend_from_slice(&self.text);
        let (mut digits, mut nanos) = ([b'0'; 9], moment.nanos);
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(nanos % 10).unwrap_or(0);
            nanos /= 10;
        }
        out.push(b'.');
        out.extend_from_slice(&digits);
        out.push(b'Z');
    }
}

/// `2026-11-25T09:17:11`, by Howard Hinnant's `civil_from_days`.
fn civil(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Now, as RFC 3339.
pub(crate) fn now() -> String {
    ago(Duration::ZERO)
}

/// The time that was so long ago.
pub(crate) fn ago(age: Duration) -> String {
    let (mut out, now) = (Vec::new(), Moment::now());
    let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let seconds = now.seconds.saturating_sub(age).max(0);
    Calendar::default().push(&mut out, Moment { seconds, ..now });
    String::from_utf8(out).unwrap_or_default()
}

/// A moment in seconds since 1970, as RFC 3339.
pub(crate) fn at(seconds: i64) -> String {
    format!("{}Z", civil(seconds))
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(civil(0), "1970-01-01T00:00:00");
        assert_eq!(civil(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(civil(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(civil(1_795_598_231), "2026-11-25T09:17:11");
        assert_eq!(civil(-1), "1969-12-31T23:59:59");
    }
}
