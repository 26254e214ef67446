//! Both ends of the conversations that `egress` measures: a nameserver and a server outside, and a
//! client that is run bare and in a ring, so that both sides of a ratio are the same program.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Where the server is; the namespaces are the bench's own, so nobody else's address is taken.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 2);
/// The other end of its cable.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 1);
/// Its port.
pub const PORT: u16 = 8000;
/// Its name.
pub const NAME: &str = "server.example.com";

const CHUNK: usize = 256 * 1024;
/// The type that is asked for.
const A: [u8; 2] = [0, 1];
const TTL: [u8; 4] = [0, 0, 0, 60];

/// Serves names and bytes: a line with a number is answered by so many bytes.
pub fn serve() -> io::Result<()> {
    let names = UdpSocket::bind((SERVER, 53))?;
    thread::spawn(move || {
        let mut space = [0; 1500];
        while let Ok((length, from)) = names.recv_from(&mut space) {
            if let Some(answer) = answer(&space[..length]) {
                drop(names.send_to(&answer, from));
            }
        }
    });
    let listener = TcpListener::bind((SERVER, PORT))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(give(&stream)));
        }
    });
    Ok(())
}

fn give(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let body = vec![b'x'; CHUNK];
    for line in BufReader::new(stream).lines() {
        let mut left: usize = line?.parse().map_err(io::Error::other)?;
        while left > 0 {
            left -= stream.write(&body[..left.min(CHUNK)])?;
        }
    }
    Ok(())
}

/// Every name has the server's IPv4 address and no other.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let name = question.get(12..)?.iter().position(|byte| *byte == 0)?;
    let end = 12 + name + 1 + 4;
    let is_a = question.get(end - 4..end - 2)? == A;
    let counts = [0, 1, 0, u8::from(is_a), 0, u8::from(!is_a), 0, 0];
    let mut answer = [&question[..2], &[0x81, 0x80], &counts].concat();
    answer.extend_from_slice(&question[12..end]);
    answer.extend_from_slice(&[0xc0, 12, 0, if is_a { 1 } else { 6 }, 0, 1]);
    answer.extend_from_slice(&TTL);
    if is_a {
        answer.extend_from_slice(&[0, 4]);
        answer.extend_from_slice(&SERVER.octets());
    } else {
        // Two root names, and five numbers of which the last is how long there is none.
        answer.extend_from_slice(&[0, 22, 0, 0]);
        answer.extend_from_slice(&TTL.repeat(5));
    }
    Some(answer)
}

/// Does what each line of standard input says, and answers each with one line.
pub fn client() -> io::Result<()> {
    let mut held = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (what, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: usize = number.parse().map_err(io::Error::other)?;
        let known = resolve()?;
        let times = match what {
            "download" => vec![timed(|| fetch(&mut connect(known)?, number))?],
            "first" => series(number, || fetch(&mut connect(resolve()?)?, 1))?,
            "known" => series(number, || fetch(&mut connect(known)?, 1))?,
            "ask" => {
                let mut stream = connect(known)?;
                series(number, || fetch(&mut stream, 64))?
            }
            "hold" => {
                for _ in 0..number {
                    let mut stream = connect(known)?;
                    fetch(&mut stream, 1)?;
                    held.push(stream);
                }
                Vec::new()
            }
            other => return Err(io::Error::other(other.to_owned())),
        };
        let times: Vec<String> = times.iter().map(|t| t.as_nanos().to_string()).collect();
        println!("{}", times.join(" "));
    }
    Ok(())
}

fn timed(mut what: impl FnMut() -> io::Result<()>) -> io::Result<Duration> {
    let since = Instant::now();
    what()?;
    Ok(since.elapsed())
}

fn series(count: usize, mut what: impl FnMut() -> io::Result<()>) -> io::Result<Vec<Duration>> {
    (0..count).map(|_| timed(&mut what)).collect()
}

fn connect(address: Ipv4Addr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address, PORT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn fetch(stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
    stream.write_all(format!("{bytes}\n").as_bytes())?;
    let mut space = vec![0; CHUNK.min(bytes)];
    let mut left = bytes;
    while left > 0 {
        match stream.read(&mut space)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => left -= got,
        }
    }
    Ok(())
}

/// Asks the nameserver of `/etc/resolv.conf`, as a program without a cache does.
fn resolve() -> io::Result<Ipv4Addr> {
    let text = std::fs::read_to_string("/etc/resolv.conf")?;
    let server = text
        .lines()
        .find_map(|line| line.strip_prefix("nameserver "));
    let server: Ipv4Addr = server
        .unwrap_or_default()
        .parse()
        .map_err(io::Error::other)?;
    let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in NAME.split('.') {
        question.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(SocketAddr::from((server, 53)))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send(&question)?;
    let mut space = [0; 512];
    let length = socket.recv(&mut space)?;
    // Both nameservers put the one address first, after a pointer to its name and ten bytes.
    let record = question.len();
    match space[..length].get(record + 12..record + 16) {
        Some([a, b, c, d]) if space[7] > 0 => Ok(Ipv4Addr::new(*a, *b, *c, *d)),
        _ => Err(io::Error::other("no address")),
    }
}
