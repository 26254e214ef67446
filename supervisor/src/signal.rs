//! Governance signals (DESIGN section 12), with the toolkit's numbers.

/// What the supervisor does to a run, or tells its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// Everything of the ring stands still.
    Stop = 1,
    /// It goes on.
    Cont = 2,
    /// No new action; when the current ones have ended, or `kill.grace` is over, as Term.
    Int = 3,
    /// All of it is killed now.
    Kill = 4,
    /// SIGTERM, and after `kill.grace` as Kill.
    Term = 5,
    /// What is known of the run is said and recorded.
    Usr1 = 6,
    /// The agent is asked to save its state, and the log's head is signed.
    Usr2 = 7,
    /// A violation, which counts towards `on_violation`.
    Policy = 8,
    /// A budget is used up: frozen until somebody says go.
    Budget = 10,
    /// One action again and again.
    Loop = 11,
}

impl Signal {
    /// All that are in force. TRUST (9) and DRIFT (12) are not: nothing measures them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Stop,
        Self::Cont,
        Self::Int,
        Self::Kill,
        Self::Term,
        Self::Usr1,
        Self::Usr2,
        Self::Policy,
        Self::Budget,
        Self::Loop,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Cont => "CONT",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Term => "TERM",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Policy => "POLICY",
            Self::Budget => "BUDGET",
            Self::Loop => "LOOP",
        }
    }

    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// `STOP`, `SIGSTOP`, `stop`, or its number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let mut all = Self::ALL.into_iter();
        all.find(|signal| signal.name() == name || signal.number().to_string() == name)
    }

    /// Whether an agent may keep the event of it away for a while. What it does is done all the same.
    pub(crate) const fn maskable(self) -> bool {
        matches!(self, Self::Int | Self::Term | Self::Usr1 | Self::Usr2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_toolkits() {
        assert_eq!(Signal::parse("SIGSTOP"), Some(Signal::Stop));
        assert_eq!(Signal::parse("kill"), Some(Signal::Kill));
        assert_eq!(Signal::parse("10"), Some(Signal::Budget));
        for none in ["", "SIG", "TRUST", "DRIFT", "9", "12", "0"] {
            assert_eq!(Signal::parse(none), None, "{none}");
        }
        for signal in Signal::ALL {
            assert_eq!(Signal::parse(signal.name()), Some(signal));
        }
    }
}
