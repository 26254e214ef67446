//! Assembles classic BPF from its end to its beginning, so that every target of a jump is known
//! when the jump is written (the machine only jumps forward).

use super::rules::{ArgumentRule, Clause, Test};
use super::{Insn, Verdict};

/// An instruction, counted from the end of the program: 0 is the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Default)]
pub(super) struct Assembler {
    /// In reverse.
    insns: Vec<Insn>,
    leaves: Vec<(Verdict, Label)>,
}

const LD_ABS: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

/// Offsets in struct seccomp_data.
const NR_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGS_AT: u32 = 16;

/// A conditional jump reaches 255 instructions. Two detours may come between, hence the margin.
const REACH: usize = 250;

impl Assembler {
    pub(super) fn len(&self) -> usize {
        self.insns.len()
    }

    pub(super) fn finish(mut self) -> Vec<Insn> {
        self.insns.reverse();
        self.insns
    }

    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) -> Label {
        self.insns.push(Insn { code, jt, jf, k });
        Label(self.insns.len() - 1)
    }

    /// How far it is from the instruction written next to `to`.
    fn distance(&self, to: Label) -> usize {
        // The next one gets the number len(); the one after it in the program is len() - 1.
        self.insns.len() - 1 - to.0
    }

    /// A label within a conditional jump's reach that leads to `to`.
    fn near(&mut self, to: Label) -> Label {
        if self.distance(to) <= REACH {
            return to;
        }
        let distance = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.push(JA, distance, 0, 0)
    }

    /// A conditional jump. Both ways are explicit, so a detour is never fallen into.
    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        let reach = |to| u8::try_from(self.distance(to)).unwrap_or(u8::MAX);
        let (jt, jf) = (reach(yes), reach(no));
        self.push(code, k, jt, jf)
    }

    /// The instruction that answers; one for each answer.
    pub(super) fn leaf(&mut self, verdict: Verdict) -> Label {
        if let Some((_, label)) = self.leaves.iter().find(|(known, _)| *known == verdict) {
            return *label;
        }
        let k = match verdict {
            Verdict::Allow => 0x7fff_0000,
            Verdict::Errno(number) => 0x0005_0000 | u32::from(number),
            Verdict::Kill => 0x8000_0000,
        };
        let label = self.push(RET, k, 0, 0);
        self.leaves.push((verdict, label));
        label
    }

    /// The code that answers one call by its arguments.
    pub(super) fn rule(&mut self, rule: &ArgumentRule) -> Label {
        let mut next = self.leaf(rule.otherwise);
        for clause in rule.clauses.iter().rev() {
            next = self.clause(clause, next);
        }
        next
    }

    fn clause(&mut self, clause: &Clause, otherwise: Label) -> Label {
        let mut next = self.leaf(clause.then);
        for within in clause.when.iter().rev() {
            let (code, k, mask) = match within.test {
                Test::Is(value) => (JEQ, value, None),
                Test::AnyOf(bits) => (JSET, bits, None),
                Test::Masked(mask, value) => (JEQ, value, Some(mask)),
            };
            self.branch(code, k, next, otherwise);
            if let Some(mask) = mask {
                self.push(AND, mask, 0, 0);
            }
            next = self.push(LD_ABS, ARGS_AT + 8 * u32::from(within.arg), 0, 0);
        }
        next
    }

    /// The code that allows the one call whose sixth argument is the secret, and where the halves
    /// of the secret are, counted from the end.
    pub(super) fn secret(&mut self, [low, high]: [u32; 2]) -> (Label, (usize, usize)) {
        let allow = self.leaf(Verdict::Allow);
        let refuse = self.leaf(super::EPERM);
        let at_high = self.branch(JEQ, high, allow, refuse);
        let load = self.push(LD_ABS, ARGS_AT + 8 * 5 + 4, 0, 0);
        let at_low = self.branch(JEQ, low, load, refuse);
        let start = self.push(LD_ABS, ARGS_AT + 8 * 5, 0, 0);
        (start, (at_low.0, at_high.0))
    }

    /// A balanced search: the answer to a number is that of the last run which begins at or below.
    pub(super) fn search(&mut self, starts: &[(u16, Label)]) -> Label {
        match starts {
            [] => self.leaf(Verdict::Kill),
            [(_, only)] => *only,
            _ => {
                let (below, above) = starts.split_at(starts.len() / 2);
                let pivot = above.first().map_or(0, |(first, _)| *first);
                let above = self.search(above);
                let below = self.search(below);
                self.branch(JGE, pivot.into(), above, below)
            }
        }
    }

    /// What comes first: a foreign architecture and the x32 table are death.
    pub(super) fn prologue(&mut self, root: Label, arch: u32, x32: u32) {
        let kill = self.leaf(Verdict::Kill);
        self.branch(JGE, x32, kill, root);
        let number = self.push(LD_ABS, NR_AT, 0, 0);
        self.branch(JEQ, arch, number, kill);
        self.push(LD_ABS, ARCH_AT, 0, 0);
    }
}
