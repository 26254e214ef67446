//! `agt-hook`: what Claude Code and Codex run before and after each of their tool calls, so that it is a
//! `tool.call` decided and recorded like any other.
//!
//! It runs inside the ring, with the agent's rights and no more, and speaks at the ring's door. Both agents
//! give the call as JSON on standard input, and take exit code 2 for no and standard error for the reason.
//! Whatever goes wrong before a call is a no.

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Map, Value, json};

use crate::door::{Frame, HEAD, LARGE_MAX, PAYLOAD_MAX, WITH_FD};

/// The name under which [`crate::main`] becomes this; it is mounted there.
pub(crate) const NAME: &str = "/run/agt-hook";
/// How long a call waits for a person. Its caller gives it more time than this.
const APPROVAL_MAX: Duration = Duration::from_secs(600);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The most that an agent says of one call; the result of the tool is in it afterwards.
const INPUT_MAX: u64 = 64 << 20;
/// Decisions that wait for their outcome: who is told of it afterwards is another process.
const CALLS: &str = "/tmp/.agt-calls";
const NO: u8 = 2;

const ACT: u16 = 67;
const DONE: u16 = 68;
const APPROVAL: u16 = 71;

/// The whole program: `before`, `after` or `failed`.
pub(crate) fn main() -> ExitCode {
    let when = std::env::args().nth(1).unwrap_or_default();
    let said = match when.as_str() {
        "before" => before(),
        // What is done is done; that it could not be told changes nothing.
        "after" => after(true).or(Ok(())),
        "failed" => after(false).or(Ok(())),
        _ => Err(format!("{NAME} before, after or failed; it reads the call")),
    };
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody to tell when standard error is gone; the exit code says it.
            let _unheard = writeln!(io::stderr(), "agt-supervisor: {why}");
            ExitCode::from(NO)
        }
    }
}

/// Asks, and waits for a person where one has to approve. `Err` is why not.
fn before() -> Result<(), String> {
    let call = input()?;
    let tool = call.get("tool_name").and_then(Value::as_str);
    let tool = tool.ok_or("the call names no tool, so it is denied")?;
    let args = match call.get("tool_input") {
        Some(Value::Object(args)) => args.clone(),
        Some(Value::Null) | None => Map::new(),
        Some(other) => Map::from_iter([("input".to_owned(), other.clone())]),
    };
    let failed =
        |error: io::Error| format!("{tool} cannot be asked about, so it is denied: {error}");
    let mut door = Door::open().map_err(failed)?;
    let until = Instant::now() + APPROVAL_MAX;
    loop {
        let reply = door.act(tool, &args).map_err(failed)?;
        let text = |key: &str| reply.get(key).and_then(Value::as_str);
        match (text("verdict"), text("errno"), seq(&reply)) {
            (Some("allow" | "audit"), None, Some(seq)) => {
                note(&call, seq);
                return Ok(());
            }
            (Some("escalate"), ..) if Instant::now() < until => {
                let id = reply.get("approval").and_then(|held| held.get("id"));
                let id = id
                    .and_then(Value::as_str)
                    .ok_or_else(|| refusal(tool, &reply))?;
                if !door.answered(id, until).map_err(failed)? {
                    return Err(refusal(tool, &reply));
                }
            }
            _ => return Err(refusal(tool, &reply)),
        }
    }
}

/// Tells how a call went that was allowed here.
fn after(ok: bool) -> Result<(), String> {
    let call = input()?;
    let place = place(&call).ok_or("the call has no name")?;
    let kept = fs::read_to_string(&place).map_err(|error| error.to_string())?;
    // Gone with its outcome either way.
    let _kept = fs::remove_file(&place);
    let seq: u64 = kept
        .trim()
        .parse()
        .map_err(|_| "what was kept is no number")?;
    let body = json!({"decision": {"seq": seq}, "ok": ok});
    let mut door = Door::open().map_err(|error| error.to_string())?;
    door.call(DONE, &body, None)
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn input() -> Result<Map<String, Value>, String> {
    let mut bytes = Vec::new();
    let read = io::stdin().take(INPUT_MAX).read_to_end(&mut bytes);
    read.map_err(|error| format!("the call cannot be read, so it is denied: {error}"))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| format!("the call cannot be read, so it is denied: {error}"))
}

fn seq(reply: &Map<String, Value>) -> Option<u64> {
    reply.get("decision")?.get("seq")?.as_u64()
}

/// Where a call's decision is kept; its name is the agent's, and may be anything.
fn place(call: &Map<String, Value>) -> Option<PathBuf> {
    let name = call.get("tool_use_id")?.as_str()?;
    let name = audit::hex(&audit::sha256(name.as_bytes()));
    Some(PathBuf::from(CALLS).join(name))
}

/// Without it the call goes ahead all the same: it is decided and recorded, and only its outcome is not.
fn note(call: &Map<String, Value>, seq: u64) {
    if let Some(place) = place(call) {
        let made = fs::create_dir_all(CALLS).and_then(|()| fs::write(place, seq.to_string()));
        drop(made);
    }
}

/// What the model is told.
fn refusal(tool: &str, reply: &Map<String, Value>) -> String {
    let text = |key: &str| reply.get(key).and_then(Value::as_str);
    let id = reply.get("approval").and_then(|held| held.get("id"));
    let mut said = match (text("verdict"), id.and_then(Value::as_str)) {
        (Some("escalate"), Some(id)) => format!(
            "{tool} waits for a person, and nobody has approved it: `agt-supervisor approve {id}`"
        ),
        _ => format!("{tool} is denied"),
    };
    if let Some(rule) = text("rule") {
        said += &format!(" by the rule {rule}");
    }
    if let Some(reason) = text("reason") {
        said += &format!(": {reason}");
    }
    if let Some(wait) = reply.get("retry_after_ms").and_then(Value::as_u64) {
        said += &format!(" (again after {wait} ms)");
    }
    said
}

/// A connection to the supervisor.
struct Door {
    socket: UnixStream,
    next: u64,
}

impl Door {
    /// By its place, not by the environment, which may have been cleaned.
    fn open() -> io::Result<Self> {
        let socket = UnixStream::connect(jail::DOOR.to_string_lossy().as_ref())?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Self { socket, next: 1 })
    }

    fn act(&mut self, tool: &str, args: &Map<String, Value>) -> io::Result<Map<String, Value>> {
        let mut body = json!({"action": "tool.call", "tool": tool, "args": args});
        if serde_json::to_vec(&body)?.len() <= PAYLOAD_MAX {
            return self.call(ACT, &body, None);
        }
        let args = serde_json::to_vec(args)?;
        if args.len() as u64 > LARGE_MAX {
            let why = format!(
                "its input is {} bytes of JSON; at most {LARGE_MAX}",
                args.len()
            );
            return Err(io::Error::other(why));
        }
        body = json!({"action": "tool.call", "tool": tool, "args_sha256": audit::hex(&audit::sha256(&args))});
        self.call(ACT, &body, Some(sealed(&args)?))
    }

    /// Waits until a person has answered; false when nobody did in time.
    fn answered(&mut self, id: &str, until: Instant) -> io::Result<bool> {
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(250));
            let reply = self.call(APPROVAL, &json!({"id": id}), None)?;
            let text = |key: &str| reply.get(key).and_then(Value::as_str);
            match (text("state"), text("errno")) {
                // Asked too often is no answer yet.
                (Some("waits"), _) | (_, Some("EAGAIN")) => {}
                (state, _) => return Ok(matches!(state, Some("approved" | "denied"))),
            }
        }
        Ok(false)
    }

    fn call(
        &mut self,
        call: u16,
        body: &Value,
        along: Option<OwnedFd>,
    ) -> io::Result<Map<String, Value>> {
        let id = self.next;
        self.next += 1;
        let frame = Frame {
            call,
            flags: if along.is_some() { WITH_FD } else { 0 },
            id,
            payload: serde_json::to_vec(body)?,
        };
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        let sent = along.map_or(Ok(0), |fd| self.send(&bytes, &fd))?;
        self.socket
            .write_all(bytes.get(sent..).unwrap_or_default())?;
        let mut came = Vec::new();
        loop {
            let mut head = [0; HEAD];
            self.socket.read_exact(&mut head)?;
            let [a, b, c, d, ..] = head;
            let length = u32::from_le_bytes([a, b, c, d]);
            came.extend_from_slice(&head);
            (&self.socket).take(length.into()).read_to_end(&mut came)?;
            let frame = Frame::take(&mut came).ok().flatten();
            let frame = frame.ok_or_else(|| io::Error::other("what answers is no supervisor"))?;
            if frame.answers(id) {
                return Ok(serde_json::from_slice(&frame.payload)?);
            }
        }
    }

    fn send(&self, bytes: &[u8], fd: &OwnedFd) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let parts = [IoSlice::new(bytes)];
        Ok(rustix::net::sendmsg(
            &self.socket,
            &parts,
            &mut control,
            SendFlags::NOSIGNAL,
        )?)
    }
}

/// What nobody can change any more.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create("agt-args", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(file.into())
}
