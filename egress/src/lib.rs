//! The one way out of a ring's network.
//!
//! The ring has a loopback and nothing else. On it listen sockets that were passed to this process,
//! which lives outside in a sandbox of its own: no file, no new program, only internet sockets. Read
//! `session.rs` first: it is what every connection goes through. `listeners.rs`, `proxy.rs` and
//! `dns.rs` are the ways in, `resolve.rs` and `chain.rs` the ways out, `tell.rs` is who hears of it.
#![forbid(unsafe_code)]

mod chain;
mod dns;
mod error;
mod hello;
mod inner;
mod listeners;
mod proxy;
mod relay;
mod resolve;
mod session;
mod table;
mod tell;
pub mod wire;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;

use rustix::net::RecvFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::{LocalSet, spawn_local};

pub use error::Error;
use resolve::Upstream;
use session::{Egress, Ground};
use tell::Teller;
use wire::{Config, Event, Order};

/// The process `agt-egress`: its standard input is the socket to the supervisor.
#[must_use]
pub fn run() -> ExitCode {
    let done = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(Error::Runtime)
        .and_then(serve_on);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agt-egress: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves on a socket to the supervisor until that goes away.
///
/// # Errors
/// What keeps it from starting, and a supervisor that says what is no message.
pub fn serve_on(socket: OwnedFd) -> Result<(), Error> {
    serve(socket, Ground::REAL)
}

/// Whether a client's first bytes are a whole TLS ClientHello for this name, in the open.
#[must_use]
pub fn agrees(bytes: &[u8], name: &names::HostName) -> bool {
    hello::judge(bytes, name) == hello::Verdict::Agrees
}

/// Tries, from this very process, what a connection to an allowed name would meet, and breaks it off as
/// soon as it stands: for explaining, not for carrying.
///
/// # Errors
/// The kind of the refusal and its sentence.
pub fn try_reach(
    resolver: &wire::Resolver,
    name: &names::HostName,
    port: u16,
    declared: &[names::Cidr],
) -> Result<std::net::SocketAddr, (wire::Kind, String)> {
    let failed = |error: &dyn std::fmt::Display| (wire::Kind::Unreachable, error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| failed(&error))?;
    let upstream = Upstream::new(resolver).map_err(|error| failed(&error))?;
    let tried = runtime.block_on(async {
        let all = upstream.addresses(name).await?;
        let fine = resolve::vet(name, &all, declared, resolve::is_own)?;
        resolve::dial(name.as_str(), &fine, port).await
    });
    tried
        .map(|(_, address)| address)
        .map_err(|refusal| (refusal.kind, refusal.reason))
}

fn serve(socket: OwnedFd, ground: Ground) -> Result<(), Error> {
    let (config, fds) =
        wire::receive::<Config>(&socket, RecvFlags::empty())?.ok_or(Error::NoConfig)?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(Error::Runtime)?;
    LocalSet::new().block_on(&runtime, obey(socket, config, fds, ground))
}

/// Every connection needs two descriptors and, while bytes move, two pipes.
fn raise_descriptors() {
    let now = getrlimit(Resource::Nofile);
    // Where that is refused, listeners rest when descriptors run out.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: now.maximum,
            maximum: now.maximum,
        },
    );
}

async fn obey(
    socket: OwnedFd,
    config: Config,
    fds: Vec<OwnedFd>,
    ground: Ground,
) -> Result<(), Error> {
    let teller = Teller::new(socket, config.ask)?;
    let egress = Egress::new(&config, Rc::clone(&teller), ground)?;
    listeners::start(&egress, &config, fds)?;
    drop(config);
    let refusals = Rc::clone(&teller);
    drop(spawn_local(async move { refusals.tell_refusals().await }));
    teller.send(&Event::Ready(true)).await?;
    while let Some(order) = teller.order().await? {
        match order {
            Order::Resolver(resolver) => {
                let upstream = Rc::new(Upstream::new(&resolver)?);
                egress.upstream.replace(upstream);
            }
            Order::Verdict(verdict) => teller.verdict(verdict),
            Order::Ping(number) => {
                // The last question of a run: what is told before its answer is in the report.
                teller.tell_counted();
                teller.send(&Event::Pong(number)).await?;
            }
        }
    }
    // No more orders: what was carried until now is told.
    egress.end().await;
    teller.tell_counted();
    Ok(())
}
