//! The UDP sockets of BFD (RFC 5881): one receiver per local address, one sender per peer.
//!
//! The sockets do not block. A packet that cannot be sent is dropped without an error, as if the network
//! had lost it. `session` polls the receivers; the packets themselves belong to [`bfd`](crate::bgp::bfd).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use crate::{
    bgp::speaker::{BfdPacket, SpeakerEvent},
    family::Family,
    log, sys,
};

/// The first of the source ports 49152 to 65535 that RFC 5881 section 4 allows.
const FIRST_SOURCE_PORT: u16 = 49_152;
/// The number of source ports to try.
const SOURCE_PORT_TRIES: u16 = 64;
/// The maximum number of packets to read from a socket at a time. The rest is read in the next turn.
const MAX_PACKETS: usize = 64;

/// The BFD sockets.
#[derive(Default)]
pub(crate) struct BfdSockets {
    receivers: Vec<UdpSocket>,
    /// Senders by the remote address and the configured local address.
    senders: Vec<((IpAddr, Option<IpAddr>), UdpSocket)>,
}

impl BfdSockets {
    /// Closes all sockets and opens receivers at these addresses. An address that fails is logged.
    pub(crate) fn listen(&mut self, at: &[SocketAddr]) {
        *self = BfdSockets::default(); // an old socket may have one of the new addresses
        for at in at {
            match bind_receiver(*at) {
                Ok(socket) => self.receivers.push(socket),
                Err(e) => log::warn(format_args!("bgp: listening for BFD at {at}: {e}")),
            }
        }
    }

    /// Adds the receivers to the poll set, in the order that [`BfdSockets::receive`] expects.
    pub(crate) fn register(&self, poll: &mut sys::Poll) {
        self.receivers.iter().for_each(|socket| poll.add(socket, true, false));
    }

    /// Reads packets and appends an event for each. `is_ready` is called once per receiver and returns
    /// true if that receiver is readable.
    pub(crate) fn receive(
        &self,
        mut is_ready: impl FnMut() -> bool,
        events: &mut Vec<SpeakerEvent>,
    ) {
        for socket in &self.receivers {
            let limit = if is_ready() { MAX_PACKETS } else { 0 };
            let mut bytes = [0; 64];
            for _ in 0..limit {
                let Ok((len, from)) = socket.recv_from(&mut bytes) else { break };
                events.push(SpeakerEvent::BfdReceived(from.ip(), bytes[..len].to_vec()));
            }
        }
    }

    /// Sends a packet. The sender is opened on first use.
    pub(crate) fn send(&mut self, packet: &BfdPacket) {
        let key = (packet.to.ip(), packet.local);
        let at = self.senders.iter().position(|(own, _)| *own == key).or_else(|| {
            self.senders.push((key, bind_sender(key.0, key.1).ok()?));
            Some(self.senders.len() - 1)
        });
        if let Some(at) = at {
            let _ = self.senders[at].1.send_to(&packet.bytes, packet.to);
        }
    }
}

/// Opens a receiver that drops packets with a TTL other than 255 (RFC 5881 section 5).
fn bind_receiver(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(at)?;
    sys::require_ttl_255(&socket, Family::of_addr(&at.ip()))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Opens a sender with TTL 255 at the first free source port. Fails if all tried ports are in use.
fn bind_sender(to: IpAddr, local: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut last = Err(io::ErrorKind::AddrInUse.into());
    for port in (FIRST_SOURCE_PORT..).take(SOURCE_PORT_TRIES.into()) {
        last = UdpSocket::bind(SocketAddr::new(local.unwrap_or(any), port));
        if !matches!(&last, Err(e) if e.kind() == io::ErrorKind::AddrInUse) {
            break;
        }
    }
    let socket = last?;
    sys::set_ttl(&socket, Family::of_addr(&to), u8::MAX)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
