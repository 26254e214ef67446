//! The foreground loop: bytes between the caller and the ring, signals, deadlines, and the end.

mod orders;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use plan::{Ended, Report, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustix::time::{ClockId, clock_gettime};

use super::deny::{Replaced, Watch};
use super::freezer::Freezer;
use super::governor::Governor;
use super::network::Egress;
use super::policies::Loaded;
use super::streams::Pair;
use crate::approvals;
use crate::banner;
use crate::control::Control;
use crate::door::Door;
use crate::error::Failed;
use crate::link::Link;
use crate::signal::Signal as Governance;

/// What the supervisor itself decided, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// A signal to the supervisor.
    Signal(i32),
    /// `limits.wall` was over.
    Wall,
    /// `limits.output` was reached.
    Output,
    /// Something that `files.deny` hides was replaced on the host.
    Unmasked(Replaced),
    /// The audit log cannot be written.
    Unrecorded,
    /// Too many of its actions were denied.
    Violations,
    /// It asked for one thing again and again.
    Loop,
    /// A budget was used up.
    Budget,
    /// Somebody sent it a governance signal.
    Told(Governance),
}

/// How the run went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// `None` when ringd was lost: the kernel has ended the ring, and nobody saw its status.
    pub(crate) ended: Option<Ended>,
    pub(crate) stopped: Option<Stopped>,
}

/// The limits that this loop keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) grace: Duration,
    pub(crate) wall: Option<Duration>,
    pub(crate) output: Option<u64>,
}

/// A ringd that was stopped, or hangs, does not keep its ring alive for longer than this.
const RINGD_ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Bytes moved at a time. A pipe that polls writable takes at least PIPE_BUF without blocking, so
/// that is the most that is ever written to one.
const CHUNK: usize = 4096;

/// Bytes from one descriptor to another.
struct Flow<'a> {
    from: End<'a>,
    to: End<'a>,
    buffer: Vec<u8>,
    open: bool,
    /// Counted against `limits.output`.
    counted: bool,
}

/// Where a flow begins or ends.
enum End<'a> {
    /// A pipe of the agent's, closed with the flow: that is how the agent sees the end of its input,
    /// or that nobody reads its output any more.
    Pipe(OwnedFd),
    Shared(BorrowedFd<'a>),
}

impl AsFd for End<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Pipe(fd) => fd.as_fd(),
            End::Shared(fd) => *fd,
        }
    }
}

impl Flow<'_> {
    fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        if self.buffer.is_empty() {
            (self.from.as_fd(), PollFlags::IN)
        } else {
            (self.to.as_fd(), PollFlags::OUT)
        }
    }

    /// Moves what can be moved; returns how many bytes came in.
    fn step(&mut self) -> u64 {
        if !self.buffer.is_empty() {
            match rustix::io::write(self.to.as_fd(), &self.buffer) {
                Ok(count) => drop(self.buffer.drain(..count)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                // The reader is gone; what is left has nowhere to go.
                Err(_) => self.open = false,
            }
            return 0;
        }
        let mut chunk = [0_u8; CHUNK];
        match rustix::io::read(self.from.as_fd(), &mut chunk) {
            Ok(count @ 1..) => {
                self.buffer
                    .extend_from_slice(chunk.get(..count).unwrap_or_default());
                u64::try_from(count).unwrap_or(0)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            // End of file; a terminal whose last user is gone says EIO.
            Ok(_) | Err(_) => {
                self.open = false;
                0
            }
        }
    }
}

/// The caller's terminal in raw mode, put back when dropped.
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn enter(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        // A job in the background would be stopped for touching it, and its agent run on alone.
        if rustix::termios::tcgetpgrp(terminal)? != rustix::process::getpgrp() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self {
            terminal: terminal.try_clone_to_owned()?,
            before,
        })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _gone = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Where the run stands. Each step goes down this list and never back.
#[derive(Clone, Copy)]
enum Phase {
    Running,
    /// SIGTERM was sent; KILL follows at this instant.
    Terminating(Duration),
    /// KILL was asked for; at this instant ringd itself is killed, and the kernel ends the ring.
    Killing(Duration),
}

/// What the loop looks after besides the agent's bytes.
pub(crate) struct Beside<'a> {
    pub(crate) egress: Option<Egress<'a>>,
    pub(crate) masks: Option<Watch>,
    /// The ring's door, once it is known.
    pub(crate) door: Option<Door>,
    pub(crate) governor: &'a mut Governor,
    /// How people reach it.
    pub(crate) control: Control,
    /// Reads its policies again.
    pub(crate) policies: &'a dyn Fn() -> Result<Loaded, Failed>,
    /// Whether what is refused is said while the agent runs.
    pub(crate) talk: bool,
    /// Whether anything is said: not with `--quiet`.
    pub(crate) speaks: bool,
    /// The caller's terminal is the agent's now.
    pub(crate) raw: bool,
}

impl<'a> Beside<'a> {
    /// What there is before the ring is.
    pub(crate) fn new(
        egress: Option<Egress<'a>>,
        masks: Option<Watch>,
        (governor, control): (&'a mut Governor, Control),
        policies: &'a dyn Fn() -> Result<Loaded, Failed>,
        speaks: bool,
    ) -> Self {
        Self {
            egress,
            masks,
            door: None,
            governor,
            control,
            policies,
            talk: speaks,
            speaks,
            raw: false,
        }
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let egress = self.egress.as_ref().map(Egress::fds).unwrap_or_default();
        let masks = self.masks.as_ref().map(|masks| masks.fd().as_fd());
        egress.into_iter().chain(masks).collect()
    }

    /// Says something while the agent runs. Where it owns the terminal the line ends as raw ones do.
    fn say(&self, lines: &[String]) {
        let end = if self.raw { "\r" } else { "" };
        if self.speaks {
            let lines: Vec<String> = lines.iter().map(|line| format!("{line}{end}")).collect();
            banner::tell(&lines);
        }
    }

    /// When something of it is due though nothing is ready.
    fn deadline(&self) -> Duration {
        let serves = !self.governor.is_frozen();
        let door = self.door.as_ref().filter(|_| serves).and_then(Door::due);
        let door = door.map(|due| now() + due);
        let log = now() + self.governor.due();
        let egress = self.egress.as_ref().map(Egress::deadline);
        let control = self.control.due().map(|due| now() + due);
        let all = [door, egress, control].into_iter().flatten();
        all.fold(log, Duration::min)
    }
}

struct Run<'a> {
    link: &'a Link,
    limits: Limits,
    phase: Phase,
    stopped: Option<Stopped>,
    started: Duration,
    output: u64,
    freezer: Freezer,
    /// Why it stands still, while it does.
    frozen: Option<Stopped>,
    /// The kernel has said that it does.
    still: bool,
    /// When it is ended, having been told to (INT).
    ends_by: Option<Duration>,
}

/// What the loop is given to do.
pub(crate) struct Given<'a> {
    pub(crate) link: &'a Link,
    pub(crate) signals: BorrowedFd<'a>,
    pub(crate) limits: Limits,
    pub(crate) freezer: Freezer,
}

/// Waits for the end of the ring and carries its bytes until then.
pub(crate) fn until_ended(
    given: Given<'_>,
    mut pairs: [Pair; 3],
    master: Option<&OwnedFd>,
    beside: &mut Beside<'_>,
) -> io::Result<Outcome> {
    let Given {
        link,
        signals,
        limits,
        freezer,
    } = given;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let outside = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    if let Some(master) = master {
        rustix::io::ioctl_fionbio(master, true)?;
    }
    let raw = match master {
        Some(_) if matches!(pairs[0].stream, Stream::Terminal) => Raw::enter(outside[0]).ok(),
        _ => None,
    };
    // A line of ours would land in the middle of what the agent draws.
    beside.talk &= raw.is_none();
    beside.raw = raw.is_some();
    let mut input = input_flow(&mut pairs[0], master, outside[0]);
    let mut outputs = output_flows(&mut pairs, master, outside);
    let mut run = Run {
        link,
        limits,
        phase: Phase::Running,
        stopped: None,
        started: now(),
        output: 0,
        freezer,
        frozen: None,
        still: false,
        ends_by: None,
    };
    let ended = loop {
        let ready = run.wait(signals, input.as_ref(), &outputs, beside)?;
        if ready.signal {
            while let Some(signal) = sys::signals::next(signals) {
                run.signalled(signal, master, outside)?;
            }
        }
        if ready.report {
            match link.receive()? {
                Some((Report::Ended(ended), _)) => break Some(ended),
                Some((Report::Started { .. } | Report::Failed { .. }, _)) => {}
                None => break None,
            }
        }
        if ready.input
            && let Some(flow) = &mut input
        {
            flow.step();
        }
        input = input.filter(|flow| flow.open);
        for (flow, _) in outputs
            .iter_mut()
            .zip(ready.outputs)
            .filter(|(_, ready)| *ready)
        {
            let bytes = flow.step();
            run.count(if flow.counted { bytes } else { 0 })?;
        }
        // What comes after the limit goes nowhere.
        let over = run.stopped == Some(Stopped::Output);
        outputs.retain(|flow| flow.open && !over);
        run.look_after(beside, &ready.knocks)?;
        run.deadlines()?;
    };
    drain(&mut outputs, &run);
    Ok(Outcome {
        ended,
        stopped: run.stopped,
    })
}

fn input_flow<'a>(
    pair: &mut Pair,
    master: Option<&'a OwnedFd>,
    from: BorrowedFd<'a>,
) -> Option<Flow<'a>> {
    let to = match pair.stream {
        Stream::Null => return None,
        Stream::Terminal => End::Shared(master?.as_fd()),
        Stream::Pipe => End::Pipe(pair.ours.take()?),
    };
    Some(Flow {
        from: End::Shared(from),
        to,
        buffer: Vec::new(),
        open: true,
        counted: false,
    })
}

fn output_flows<'a>(
    pairs: &mut [Pair; 3],
    master: Option<&'a OwnedFd>,
    outside: [BorrowedFd<'a>; 3],
) -> Vec<Flow<'a>> {
    let mut flows = Vec::new();
    let mut flow = |from: End<'a>, to: BorrowedFd<'a>| {
        let to = unblocked(to).map_or(End::Shared(to), End::Pipe);
        flows.push(Flow {
            from,
            to,
            buffer: Vec::new(),
            open: true,
            counted: true,
        });
    };
    for (pair, to) in pairs.iter_mut().zip(outside).skip(1) {
        if let Some(pipe) = pair.ours.take() {
            flow(End::Pipe(pipe), to);
        }
    }
    // What the ring's terminal shows goes to the caller's, wherever that is plugged in.
    let terminal = [1, 2, 0].into_iter().find_map(|number: usize| {
        let pair = pairs.get(number)?;
        matches!(pair.stream, Stream::Terminal).then(|| outside.get(number).copied())?
    });
    if let (Some(master), Some(to)) = (master, terminal) {
        flow(End::Shared(master.as_fd()), to);
    }
    flows
}

/// The caller's terminal opened once more, so that writing to it never blocks us: the flag on the
/// descriptor that we were given would be everybody's who shares it.
fn unblocked(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    if !rustix::termios::isatty(fd) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok()
}

struct Ready {
    report: bool,
    signal: bool,
    input: bool,
    outputs: Vec<bool>,
    knocks: Knocks,
}

/// Who of those that speak to the supervisor has something to say.
struct Knocks {
    /// As the door's own list of what is waited for goes.
    door: Vec<bool>,
    control: bool,
}

impl Run<'_> {
    fn wait(
        &self,
        signals: BorrowedFd<'_>,
        input: Option<&Flow<'_>>,
        outputs: &[Flow<'_>],
        beside: &Beside<'_>,
    ) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.link, PollFlags::IN),
            PollFd::from_borrowed_fd(signals, PollFlags::IN),
        ];
        for flow in outputs.iter().chain(input) {
            let (fd, flags) = flow.interest();
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let flows = fds.len();
        for fd in beside.fds() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let others = fds.len();
        let serves = self.frozen.is_none();
        if let Some(door) = beside.door.as_ref().filter(|_| serves) {
            fds.extend(door.polls());
        }
        let door = others..fds.len();
        fds.extend(beside.control.polls());
        let control = door.end..fds.len();
        fds.extend(beside.governor.polls());
        let due = beside.deadline();
        let timeout = self
            .next_deadline()
            .into_iter()
            .chain([due])
            .min()
            .map(|at| {
                let left = at.saturating_sub(now());
                Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let (door, control) = (fds.get(door), fds.get(control));
        let knocks = Knocks {
            door: door.unwrap_or_default().iter().map(is_ready).collect(),
            control: control.unwrap_or_default().iter().any(is_ready),
        };
        let mut ready = fds.iter().take(flows).map(is_ready);
        let (report, signal) = (ready.next() == Some(true), ready.next() == Some(true));
        let mut rest: Vec<bool> = ready.collect();
        let input = input.is_some() && rest.pop() == Some(true);
        Ok(Ready {
            report,
            signal,
            input,
            outputs: rest,
            knocks,
        })
    }

    /// Poll's own clock stands still while the machine sleeps, so no wait is longer than this: a
    /// deadline on CLOCK_BOOTTIME is then missed by no more.
    fn next_deadline(&self) -> Option<Duration> {
        let wall = self.limits.wall.map(|wall| self.started + wall);
        let at = match self.phase {
            Phase::Running => {
                let again = self.frozen.as_ref().and_then(|_| self.freezer.again());
                let again = again.map(|again| now() + again);
                wall.into_iter().chain(self.ends_by).chain(again).min()
            }
            Phase::Terminating(at) => Some(at),
            Phase::Killing(at) => Some(at),
        };
        at.map(|at| at.min(now() + Duration::from_secs(1)))
    }

    /// The network, and what must stay hidden. Each takes what there is and never waits.
    fn look_after(&mut self, beside: &mut Beside<'_>, knocks: &Knocks) -> io::Result<()> {
        let replaced = match &beside.masks {
            Some(masks) => masks.replaced()?,
            None => None,
        };
        if let Some(what) = replaced.filter(|_| !matches!(self.phase, Phase::Killing(_))) {
            // What was hidden can be read from this moment on, or written what was not: no patience, and
            // nothing is read again before.
            self.stopped = Some(Stopped::Unmasked(what));
            return self.kill();
        }
        if let Some(egress) = &mut beside.egress {
            egress.step(beside.governor);
            let lines = egress.traffic.take_lines();
            if beside.talk {
                banner::tell(&lines);
            }
        }
        // What people order comes before what the agent asks.
        for asked in beside.control.step(knocks.control) {
            let said = self.obey(&asked, beside)?;
            beside.control.answer(asked, &said);
        }
        // Who stands still is not served either: what it asked before is decided when it goes on.
        if let Some(door) = beside.door.as_mut().filter(|_| self.frozen.is_none()) {
            door.step(&knocks.door, beside.governor);
        }
        beside.governor.look_after_workers();
        beside.governor.tick();
        for raised in beside.governor.take_raised() {
            self.carry_out(&raised, beside)?;
        }
        for question in beside.governor.take_asks() {
            beside.say(&[approvals::words(&question)]);
        }
        if self.ends_by.is_some() && !beside.governor.is_busy() {
            self.ends_by = Some(now());
        }
        if beside.governor.broken().is_some() && !matches!(self.phase, Phase::Killing(_)) {
            self.stopped = Some(Stopped::Unrecorded);
            return self.kill();
        }
        Ok(())
    }

    fn deadlines(&mut self) -> io::Result<()> {
        let now = now();
        match self.phase {
            Phase::Running if self.frozen.is_some() && self.freezer.again().is_some() => {
                self.tell(|link| self.freezer.freeze(link).map(drop))?;
            }
            Phase::Running | Phase::Terminating(_) | Phase::Killing(_) => {}
        }
        match self.phase {
            Phase::Running => match self.limits.wall {
                Some(wall) if now >= self.started + wall => self.stop(Stopped::Wall),
                _ if self.ends_by.is_some_and(|at| now >= at) => {
                    self.stop(Stopped::Told(Governance::Int))
                }
                _ => Ok(()),
            },
            Phase::Terminating(at) if now >= at => self.kill(),
            Phase::Killing(at) if now >= at => self.link.abort(),
            Phase::Terminating(_) | Phase::Killing(_) => Ok(()),
        }
    }

    fn signalled(
        &mut self,
        signal: i32,
        master: Option<&OwnedFd>,
        outside: [BorrowedFd<'_>; 3],
    ) -> io::Result<()> {
        if signal == rustix::process::Signal::WINCH.as_raw() {
            if let Some(master) = master {
                pass_window(master, outside);
            }
            return Ok(());
        }
        match self.phase {
            Phase::Running => self.stop(Stopped::Signal(signal)),
            // Asked twice: no more patience.
            Phase::Terminating(_) => self.kill(),
            Phase::Killing(_) => Ok(()),
        }
    }

    /// The ladder's first rung: SIGTERM to all of the ring.
    fn stop(&mut self, why: Stopped) -> io::Result<()> {
        self.stopped = Some(why);
        // Who was made to stand still does not go on once more.
        if self.limits.grace.is_zero() || self.frozen.is_some() {
            return self.kill();
        }
        self.phase = Phase::Terminating(now() + self.limits.grace);
        let term = rustix::process::Signal::TERM.as_raw();
        self.tell(|link| link.signal(u8::try_from(term).unwrap_or(15)))
    }

    fn kill(&mut self) -> io::Result<()> {
        self.phase = Phase::Killing(now() + RINGD_ANSWERS_WITHIN);
        self.tell(Link::kill)
    }

    fn tell(&self, what: impl Fn(&Link) -> io::Result<()>) -> io::Result<()> {
        match what(self.link) {
            // ringd has just ended, and its report is read next; or it hangs, and is killed when it has not
            // answered in time.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    fn count(&mut self, bytes: u64) -> io::Result<()> {
        self.output += bytes;
        match (self.limits.output, self.phase) {
            (Some(most), Phase::Running) if self.output > most => self.stop(Stopped::Output),
            _ => Ok(()),
        }
    }
}

/// Gives the ring's terminal the size of the caller's.
fn pass_window(master: &OwnedFd, outside: [BorrowedFd<'_>; 3]) {
    let size = outside
        .into_iter()
        .find_map(|fd| rustix::termios::tcgetwinsize(fd).ok());
    if let Some(size) = size {
        // A terminal that is closing has no size to set.
        let _closing = rustix::termios::tcsetwinsize(master, size);
    }
}

/// What the ring wrote before it ended is still in its pipes. No more than a pipe can hold is taken
/// and no longer waited than this: another ring may have been handed the other end, and the caller
/// may have stopped reading.
fn drain(outputs: &mut [Flow<'_>], run: &Run<'_>) {
    const MOST: u64 = 1 << 20;
    let until = now() + Duration::from_secs(5);
    let over = run.limits.output.is_some_and(|most| run.output > most);
    for flow in outputs.iter_mut().filter(|_| !over) {
        let mut taken = 0;
        while flow.open && taken < MOST && now() < until {
            let (fd, flags) = flow.interest();
            let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
            let wait = if flags == PollFlags::IN { 0 } else { 1 };
            match poll(
                &mut fds,
                Some(&Timespec {
                    tv_sec: wait,
                    tv_nsec: 0,
                }),
            ) {
                Ok(1..) => taken += flow.step(),
                Ok(_) if flags == PollFlags::OUT => {}
                Ok(_) | Err(_) => break,
            }
        }
    }
}

/// Time since boot, suspension included: what a wall limit counts.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
