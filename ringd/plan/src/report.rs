//! What ringd tells the supervisor.

use crate::frame::frame;
use crate::wire::{Reader, WireError, Writer};

/// Why a ring came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The main process ended by itself.
    Exited,
    /// The supervisor asked for it.
    Killed,
    /// The watched memory limit was passed (where no cgroup enforces it).
    Memory {
        /// What was found in use, in bytes.
        used: u64,
    },
    /// Memory was to be watched and the ring's processes could not be seen.
    Blind,
}

/// The end of a ring: it was seen empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The main process's wait status as wait(2) gives it; `None` when it was killed with the ring
    /// before it could be collected.
    pub status: Option<i32>,
    /// Why.
    pub cause: Cause,
    /// Processor time of the ring's collected processes, in microseconds.
    pub cpu_us: u64,
    /// Largest resident set of one of them, in bytes.
    pub largest_rss: u64,
    /// Peak of all of them together, in bytes, where ringd watched it.
    pub watched_peak: Option<u64>,
}

/// One message of ringd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The agent's program runs, in the ring that was asked for. The terminal's master comes along
    /// when the ring has one, and then its network sockets in the order of the plan.
    Started {
        /// The ring init's pid as the host sees it.
        init: u32,
    },
    /// The ring could not be built; nothing runs.
    Failed {
        /// `jail::Stage` as its number; 0 when ringd itself failed before the clone.
        stage: u16,
        /// Which item of the stage.
        index: u16,
        /// The kernel's reason; 0 when a self-test found the ring open.
        errno: i32,
    },
    /// The ring is empty.
    Ended(Ended),
}

impl Report {
    /// The whole frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let kind = match *self {
            Report::Started { init } => {
                writer.u32(init);
                1
            }
            Report::Failed {
                stage,
                index,
                errno,
            } => {
                writer.u16(stage);
                writer.u16(index);
                writer.i32(errno);
                2
            }
            Report::Ended(ended) => {
                ended.write(&mut writer);
                3
            }
        };
        frame(kind, &writer.bytes)
    }

    /// Reads a payload of this kind.
    ///
    /// # Errors
    /// When it is not exactly one report of this version.
    pub fn decode(kind: u16, payload: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        let report = match kind {
            1 => Report::Started {
                init: reader.u32()?,
            },
            2 => Report::Failed {
                stage: reader.u16()?,
                index: reader.u16()?,
                errno: reader.i32()?,
            },
            3 => Report::Ended(Ended::read(&mut reader)?),
            other => {
                return Err(WireError::Unknown {
                    field: "report",
                    value: other.into(),
                });
            }
        };
        reader.end()?;
        Ok(report)
    }
}

impl Ended {
    fn write(&self, writer: &mut Writer) {
        writer.u8(self.status.is_some().into());
        writer.i32(self.status.unwrap_or(0));
        let (cause, used) = match self.cause {
            Cause::Exited => (0, 0),
            Cause::Killed => (1, 0),
            Cause::Memory { used } => (2, used),
            Cause::Blind => (3, 0),
        };
        writer.u8(cause);
        writer.u64(used);
        writer.u64(self.cpu_us);
        writer.u64(self.largest_rss);
        writer.u8(self.watched_peak.is_some().into());
        writer.u64(self.watched_peak.unwrap_or(0));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let has_status = reader.flag("status")?;
        let status = reader.i32()?;
        let cause = reader.u8()?;
        let used = reader.u64()?;
        let cause = match cause {
            0 => Cause::Exited,
            1 => Cause::Killed,
            2 => Cause::Memory { used },
            3 => Cause::Blind,
            other => {
                return Err(WireError::Unknown {
                    field: "cause",
                    value: other.into(),
                });
            }
        };
        let cpu_us = reader.u64()?;
        let largest_rss = reader.u64()?;
        let has_peak = reader.flag("peak")?;
        let peak = reader.u64()?;
        Ok(Self {
            status: has_status.then_some(status),
            cause,
            cpu_us,
            largest_rss,
            watched_peak: has_peak.then_some(peak),
        })
    }
}
