//! Frames on the socket between the supervisor and ringd: a twelve-byte header and a payload.
//!
//! | at | type | field |
//! |---|---|---|
//! | 0 | 4 bytes | `AGTP` |
//! | 4 | u16 | [`VERSION`] |
//! | 6 | u16 | kind |
//! | 8 | u32 | payload length, at most [`FRAME_BYTES_MAX`] |
//!
//! A change of any field's meaning or order raises [`VERSION`]; the two halves must agree exactly.

use crate::launch::Launch;
use crate::wire::{Reader, WireError, Writer};

/// The protocol's version. Both halves come from one build, so there is no range to negotiate.
pub const VERSION: u16 = 1;

/// A larger plan is refused unread: arguments and environment share the kernel's own bound of a few
/// hundred KiB, and nothing else in a plan is large.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

const MAGIC: [u8; 4] = *b"AGTP";

/// What stands before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload is; its meaning depends on the direction.
    pub kind: u16,
    /// Bytes of payload, within [`FRAME_BYTES_MAX`].
    pub length: usize,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 12;

    /// Reads a header.
    ///
    /// # Errors
    /// When the magic, the version or the length is not ours.
    pub fn decode(bytes: [u8; Self::LEN]) -> Result<Self, WireError> {
        let mut reader = Reader::new(&bytes);
        let magic = reader.array::<4>()?;
        if magic != MAGIC {
            let value = u32::from_le_bytes(magic).into();
            return Err(WireError::Unknown {
                field: "magic",
                value,
            });
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(WireError::Unknown {
                field: "version",
                value: version.into(),
            });
        }
        let kind = reader.u16()?;
        let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(WireError::Bound {
                field: "payload",
                max: FRAME_BYTES_MAX,
            });
        }
        Ok(Self { kind, length })
    }
}

/// Header and payload as one run of bytes.
pub(crate) fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put(&MAGIC);
    writer.u16(VERSION);
    writer.u16(kind);
    writer.u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    writer.put(payload);
    writer.bytes
}

/// What the supervisor may ask. `Launch` is taken once and only before anything runs; the others
/// only after it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Build the ring and start the agent in it.
    Launch(Box<Launch>),
    /// Send this signal (1–64) to every process of the ring.
    Signal(u8),
    /// Kill the ring now.
    Kill,
}

impl Command {
    /// The whole frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Command::Launch(launch) => {
                let mut writer = Writer::default();
                launch.write(&mut writer);
                frame(1, &writer.bytes)
            }
            Command::Signal(signal) => frame(2, &[*signal]),
            Command::Kill => frame(3, &[]),
        }
    }

    /// Reads a payload of this kind.
    ///
    /// # Errors
    /// When it is not exactly one command of this version.
    pub fn decode(kind: u16, payload: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        let command = match kind {
            1 => Command::Launch(Box::new(Launch::read(&mut reader)?)),
            2 => match reader.u8()? {
                signal @ 1..=64 => Command::Signal(signal),
                other => {
                    return Err(WireError::Unknown {
                        field: "signal",
                        value: other.into(),
                    });
                }
            },
            3 => Command::Kill,
            other => {
                return Err(WireError::Unknown {
                    field: "command",
                    value: other.into(),
                });
            }
        };
        reader.end()?;
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::filter::{Exec, FilterSpec, Sockets};
    use crate::launch::{FdRole, Network, Rule, Socket, Source, Step, Stream, Trial};
    use crate::report::{Cause, Ended, Report};
    use crate::syscalls::SyscallSet;

    fn plan() -> Launch {
        let text = |text: &str| std::ffi::CString::new(text).unwrap();
        Launch {
            fds: vec![
                FdRole::Stream(1),
                FdRole::Cgroup,
                FdRole::Tree,
                FdRole::Lock,
            ],
            uid: 1000,
            gid: 1000,
            hostname: text("bot"),
            network: Network::Own {
                sockets: vec![
                    Socket::Tcp {
                        address: [0; 4],
                        port: 443,
                    },
                    Socket::Udp {
                        address: [198, 18, 0, 1],
                        port: 53,
                    },
                    Socket::Free,
                ],
            },
            door: true,
            steps: vec![
                Step::Dir {
                    target: text("usr"),
                    mode: 0o755,
                },
                Step::File {
                    target: text("etc/x"),
                    content: b"a\0b".to_vec(),
                    mode: 0o444,
                },
                Step::Tree {
                    target: text("usr"),
                    source: Source::Detached(0),
                    attributes: 1,
                },
                Step::Tree {
                    target: text("ws"),
                    source: Source::Path {
                        path: text("/ws"),
                        dev: 1,
                        ino: 2,
                    },
                    attributes: 6,
                },
                Step::ReadOnly { target: text(".") },
            ],
            handled: [1, 2, 3],
            rules: vec![Rule {
                path: text("/usr"),
                rights: 13,
            }],
            filter: FilterSpec {
                allowed: SyscallSet::known(),
                exec: Exec::Once,
                sockets: Sockets {
                    unix: true,
                    inet: false,
                    netlink_route: true,
                },
            },
            rlimits: vec![(7, 1024)],
            streams: [Stream::Null, Stream::Pipe, Stream::Terminal],
            window: (80, 24),
            cwd: text("/ws"),
            program: text("/bin/true"),
            argv: vec![text("true")],
            envp: vec![text("A=b")],
            trials: vec![Trial::Privilege, Trial::Call(272, [1, 0, 0, 0, 0], Some(1))],
            watched_memory: 1 << 30,
            last_call_ms: 60_000,
        }
    }

    fn payload(frame: &[u8]) -> (u16, &[u8]) {
        let header = Header::decode(*frame.first_chunk().unwrap()).unwrap();
        assert_eq!(header.length, frame.len() - Header::LEN);
        (header.kind, &frame[Header::LEN..])
    }

    #[test]
    fn what_was_written_is_what_is_read() {
        for command in [
            Command::Launch(Box::new(plan())),
            Command::Signal(15),
            Command::Kill,
        ] {
            let frame = command.encode();
            let (kind, payload) = payload(&frame);
            assert_eq!(Command::decode(kind, payload), Ok(command));
        }
        let ended = Ended {
            status: Some(9),
            cause: Cause::Memory { used: 5 },
            cpu_us: 1,
            largest_rss: 2,
            watched_peak: None,
        };
        for report in [
            Report::Started { init: 7 },
            Report::Failed {
                stage: 3,
                index: 4,
                errno: -5,
            },
            Report::Ended(ended),
        ] {
            let frame = report.encode();
            let (kind, payload) = payload(&frame);
            assert_eq!(Report::decode(kind, payload), Ok(report));
        }
    }

    #[test]
    fn no_plan_makes_anybody_root() {
        for (uid, gid) in [(0, 1), (1, 0)] {
            let frame = Command::Launch(Box::new(Launch { uid, gid, ..plan() })).encode();
            let (kind, payload) = payload(&frame);
            assert!(Command::decode(kind, payload).is_err());
        }
    }

    #[test]
    fn the_hosts_network_is_for_a_program_that_can_run_no_other() {
        let decoded = |exec| {
            let filter = FilterSpec {
                exec,
                ..plan().filter
            };
            let launch = Launch {
                network: Network::Host,
                filter,
                ..plan()
            };
            let frame = Command::Launch(Box::new(launch)).encode();
            let (kind, payload) = payload(&frame);
            Command::decode(kind, payload)
        };
        assert!(decoded(Exec::Once).is_ok());
        assert!(decoded(Exec::Any).is_err());
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused() {
        let frame = Command::Launch(Box::new(plan())).encode();
        let (kind, payload) = payload(&frame);
        for end in 0..payload.len() {
            assert!(Command::decode(kind, &payload[..end]).is_err(), "{end}");
        }
        let longer = [payload, b"x"].concat();
        assert_eq!(
            Command::decode(kind, &longer),
            Err(WireError::Long { left: 1 })
        );
    }

    #[test]
    fn foreign_headers_are_refused() {
        let good: [u8; Header::LEN] = *Command::Kill.encode().first_chunk().unwrap();
        for (at, byte) in [(0, b'X'), (4, 9), (11, 0xff)] {
            let mut bad = good;
            bad[at] = byte;
            assert!(Header::decode(bad).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(kind in 0_u16..6, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Command::decode(kind, &bytes));
            let _refused_or_read = Report::decode(kind, &bytes);
        }

        #[test]
        fn a_mangled_plan_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut frame = Command::Launch(Box::new(plan())).encode();
            let index = at.index(frame.len() - Header::LEN) + Header::LEN;
            frame[index] = byte;
            drop(Command::decode(1, &frame[Header::LEN..]));
        }
    }
}
