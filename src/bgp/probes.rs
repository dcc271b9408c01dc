//! The sockets of BFD (RFC 5881): one to listen at each own address, and one for each peer to send by.
//! Nothing here waits, and what can't be sent is as good as lost on the way.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use super::speaker::{Event, Probe};
use crate::{kernel::sys, log};

/// The ports to send from (RFC 5881 section 4).
const FROM: u16 = 49_152;
/// So many of them are tried.
const TRIES: u16 = 64;
/// Read at once; there will be more.
const READ: usize = 64;

/// All of them.
#[derive(Default)]
pub struct Probes {
    ears: Vec<UdpSocket>,
    /// By where they send to and from.
    mouths: Vec<((IpAddr, Option<IpAddr>), UdpSocket)>,
}

impl Probes {
    /// Listens there and nowhere else.
    pub fn listen(&mut self, at: &[SocketAddr]) {
        *self = Probes::default(); // the old ones may be in the way
        for at in at {
            match ear(*at) {
                Ok(ear) => self.ears.push(ear),
                Err(e) => log::warn(format_args!("bgp: listening for BFD at {at}: {e}")),
            }
        }
    }

    /// Says what it waits for: as many sockets as [`Probes::serve`] asks about.
    pub fn wait(&self, poll: &mut sys::Poll) {
        self.ears.iter().for_each(|ear| poll.add(ear, true, false));
    }

    /// Hears what came. `ready` says of each socket in turn whether something did.
    pub fn serve(&self, mut ready: impl FnMut() -> bool, say: &mut Vec<Event>) {
        for ear in &self.ears {
            let many = if ready() { READ } else { 0 };
            let mut bytes = [0; 64];
            for _ in 0..many {
                let Ok((len, from)) = ear.recv_from(&mut bytes) else { break };
                say.push(Event::Probe(from.ip(), bytes[..len].to_vec()));
            }
        }
    }

    /// Sends a packet.
    pub fn send(&mut self, probe: &Probe) {
        let way = (probe.to.ip(), probe.local);
        let at = self.mouths.iter().position(|(own, _)| *own == way).or_else(|| {
            self.mouths.push((way, mouth(way.0, way.1).ok()?));
            Some(self.mouths.len() - 1)
        });
        if let Some(at) = at {
            let _ = self.mouths[at].1.send_to(&probe.bytes, probe.to);
        }
    }
}

fn ear(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(at)?;
    sys::only_from_neighbours(&socket, at.is_ipv4())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn mouth(to: IpAddr, local: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut last = Err(io::ErrorKind::AddrInUse.into());
    for port in (FROM..).take(TRIES.into()) {
        last = UdpSocket::bind(SocketAddr::new(local.unwrap_or(any), port));
        if !matches!(&last, Err(e) if e.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
    }
    let socket = last?;
    sys::ttl(&socket, to.is_ipv4(), u8::MAX)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
