//! The hidden verb that `ring test` runs inside a ring: tries each probe and says how it went.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use profiles::Target;

use super::lookup::lookup;
use crate::words;

/// A connection that is not made, or is given up by who carries it, within this was not possible.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// One line for each probe, in their order.
pub(crate) fn probe(probes: &[String]) -> u8 {
    for probe in probes {
        let (action, subject) = probe.split_once(':').unwrap_or((probe, ""));
        match attempt(action, subject) {
            Ok(how) => println!("works\t{}", words::escape(&how)),
            Err(error) => println!("fails\t{}", words::escape(&error.to_string())),
        }
    }
    0
}

fn attempt(action: &str, subject: &str) -> io::Result<String> {
    let path = std::path::Path::new(subject);
    let nothing = |()| String::new();
    match action {
        "read" if path.is_dir() => std::fs::read_dir(path).map(drop).map(nothing),
        "read" => std::fs::File::open(path).map(drop).map(nothing),
        "write" => {
            let there = path.exists();
            let mut options = std::fs::OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).open(path);
            // Only what the probe made is taken away again.
            file.and_then(|_| {
                if there {
                    Ok(())
                } else {
                    std::fs::remove_file(path)
                }
            })
            .map(nothing)
        }
        "exec" => {
            #[expect(
                clippy::disallowed_methods,
                reason = "the probe is whether the ring lets it"
            )]
            let mut command = std::process::Command::new(path);
            let null = std::process::Stdio::null;
            command.stdin(null()).stdout(null()).stderr(null());
            command.status().map(drop).map(nothing)
        }
        "connect" => connect(subject),
        "resolve" => lookup(subject).map(|addresses| {
            let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            texts.join(" ")
        }),
        _ => Err(ErrorKind::Unsupported.into()),
    }
}

fn connect(subject: &str) -> io::Result<String> {
    let (addresses, port) = match Target::parse(subject) {
        Some(Target::Name(host, port)) => (lookup(host.as_str())?, port),
        Some(Target::Address(address, port)) => (vec![address], port),
        None => return Err(ErrorKind::InvalidInput.into()),
    };
    let Some(address) = addresses.first() else {
        return Err(io::Error::other("it has no address"));
    };
    let since = Instant::now();
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::new(*address, port.get()), CONNECT_WITHIN)?;
    // Inside, every connection is taken first and closed when it cannot be carried.
    let left = CONNECT_WITHIN.saturating_sub(since.elapsed());
    stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
    match stream.read(&mut [0]) {
        Ok(0) => Err(io::Error::other("it was taken and closed again")),
        Ok(_) => Ok(String::new()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(String::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// What a connection to a listener that does this comes to.
    fn to(serve: fn(TcpListener)) -> io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || serve(listener));
        let got = attempt("connect", &format!("localhost:{port}"));
        served.join().unwrap();
        got
    }

    #[test]
    fn a_connection_works_when_it_is_carried() {
        let greets = |listener: TcpListener| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220").unwrap();
        };
        assert!(to(greets).is_ok());
        let closes = |listener: TcpListener| drop(listener.accept().unwrap());
        assert!(to(closes).unwrap_err().to_string().contains("closed again"));
        assert!(to(drop).is_err());
        for odd in ["localhost", "localhost:0", ""] {
            assert!(attempt("connect", odd).is_err(), "{odd}");
        }
    }
}
