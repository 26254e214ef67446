//! The ring's own network namespace: a loopback, and where names go out, the addresses that stand
//! for them and the sockets that are handed to whoever carries the bytes outside.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use crate::call::{self, Errno};
use crate::terminal::send;
use crate::{Fd, Network, Socket, Stage, mounts};

/// Netmask of 198.18.0.0/15, which stands for names (RFC 2544: never routed on the internet).
const NAMES_MASK: [u8; 4] = [255, 254, 0, 0];
/// Its first address. On a loopback device the whole prefix is local (ip-route(8), table local).
const NAMES_ADDRESS: [u8; 4] = [198, 18, 0, 1];
/// AF_INET as the structs of addresses hold it.
const INET: libc::sa_family_t = 2;
/// The length of a `sockaddr_in`.
const ADDRESS_LENGTH: libc::socklen_t = 16;
/// AF_UNIX and the length of a `sockaddr_un`.
const UNIX: libc::sa_family_t = 1;
const UNIX_LENGTH: libc::socklen_t = 110;
/// Where a ring's door is: what connects there speaks to the supervisor.
pub const DOOR: &CStr = c"/run/agt/agent.sock";
/// Its folder, relative to the root.
const DOOR_FOLDER: &CStr = c"run/agt";
/// As many connections as wait for whoever accepts them; a restart of that one must lose none.
const BACKLOG: libc::c_int = 256;

/// Brings the namespace up and hands its sockets out, in their order.
pub(crate) fn build(network: Network<'_>, out: Fd) -> Result<(), (Stage, usize, Errno)> {
    let Network::Own { sockets } = network else {
        return Ok(());
    };
    loopback_up(!sockets.is_empty()).map_err(|errno| (Stage::Loopback, 0, errno))?;
    for (index, socket) in sockets.iter().enumerate() {
        let handed = make(*socket).and_then(|fd| {
            let sent = send(out, fd);
            call::close(fd);
            sent
        });
        handed.map_err(|errno| (Stage::Socket, index, errno))?;
    }
    Ok(())
}

/// Binds the ring's door, hands it out, and closes its folder against everybody. Whoever connects to it
/// comes from this ring: no other has the mount that it lies in.
pub(crate) fn door(out: Fd) -> Result<(), Errno> {
    // SAFETY: socket(2) takes numbers only.
    let fd = call::check_int(unsafe {
        libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)
    })?;
    // SAFETY: an all-zero sockaddr_un is a valid value of that plain struct.
    let mut place: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    place.sun_family = UNIX;
    for (slot, byte) in place.sun_path.iter_mut().zip(DOOR.to_bytes()) {
        *slot = byte.cast_signed();
    }
    // SAFETY: bind reads one sockaddr_un of that length.
    call::check_int(unsafe { libc::bind(fd, (&raw const place).cast(), UNIX_LENGTH) })?;
    // SAFETY: listen(2) takes numbers only.
    call::check_int(unsafe { libc::listen(fd, BACKLOG) })?;
    let sent = send(out, fd);
    call::close(fd);
    sent.and_then(|()| mounts::read_only(DOOR_FOLDER))
}

/// Brings `lo` up in the ring's own network namespace (netdevice(7)).
fn loopback_up(names: bool) -> Result<(), Errno> {
    // SAFETY: socket(2) takes numbers only.
    let socket = call::check_int(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    })?;
    let mut request = request(b"lo");
    // IFF_UP; the kernel sets IFF_RUNNING itself.
    request.ifr_ifru.ifru_flags = 1;
    let mut done = configure(socket, libc::SIOCSIFFLAGS, &request);
    if names {
        done = done
            .and_then(|()| address(socket, libc::SIOCSIFADDR, NAMES_ADDRESS))
            .and_then(|()| address(socket, libc::SIOCSIFNETMASK, NAMES_MASK));
    }
    call::close(socket);
    done
}

fn address(socket: Fd, what: libc::Ioctl, address: [u8; 4]) -> Result<(), Errno> {
    let mut request = request(b"lo:1");
    // SAFETY: an all-zero sockaddr is a valid value of that plain struct.
    let mut value: libc::sockaddr = unsafe { MaybeUninit::zeroed().assume_init() };
    value.sa_family = INET;
    // A sockaddr_in: two bytes of port, then the address.
    for (slot, byte) in value.sa_data.iter_mut().skip(2).zip(address) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_addr = value;
    configure(socket, what, &request)
}

fn request(name: &[u8]) -> libc::ifreq {
    // SAFETY: an all-zero ifreq is a valid value of that plain struct.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name) {
        *slot = byte.cast_signed();
    }
    request
}

fn configure(socket: Fd, what: libc::Ioctl, request: &libc::ifreq) -> Result<(), Errno> {
    // SAFETY: these requests read one ifreq.
    call::check_int(unsafe { libc::ioctl(socket, what, core::ptr::from_ref(request)) }).map(drop)
}

/// One socket, bound and listening as far as its kind goes.
fn make(wanted: Socket) -> Result<Fd, Errno> {
    let (kind, place) = match wanted {
        Socket::Tcp(place) => (libc::SOCK_STREAM, Some(place)),
        Socket::Udp(place) => (libc::SOCK_DGRAM, Some(place)),
        Socket::Free => (libc::SOCK_STREAM, None),
    };
    // SAFETY: socket(2) takes numbers only.
    let fd = call::check_int(unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, 0) })?;
    let Some((address, port)) = place else {
        return Ok(fd);
    };
    let place = libc::sockaddr_in {
        sin_family: INET,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: bind reads one sockaddr_in of that length.
    let bound = unsafe { libc::bind(fd, (&raw const place).cast(), ADDRESS_LENGTH) };
    let mut done = call::check_int(bound);
    if let Socket::Tcp(_) = wanted {
        // SAFETY: listen(2) takes numbers only.
        done = done.and_then(|_| call::check_int(unsafe { libc::listen(fd, BACKLOG) }));
    }
    if let Err(errno) = done {
        call::close(fd);
        return Err(errno);
    }
    Ok(fd)
}
