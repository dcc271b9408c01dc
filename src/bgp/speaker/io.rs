//! The events and actions of the speaker, and its view of a peer.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    bgp::{
        bfd,
        fsm::{ConnId, FsmState},
        notification::Notification,
        rib::PrefixCounts,
    },
    model::bgp::{Peer, TtlPolicy, peer::Secret},
};

/// An event on a socket.
#[derive(Debug)]
pub(crate) enum SpeakerEvent {
    /// A connection requested by [`SpeakerAction::Dial`] is open and has this local address.
    Connected(ConnId, IpAddr),
    /// A connection requested by [`SpeakerAction::Dial`] failed, with the error as text.
    ConnectFailed(ConnId, String),
    /// A whole message was received, header included.
    Received(ConnId, Vec<u8>),
    /// The received bytes are not a BGP message; the connection must end with this NOTIFICATION.
    Malformed(ConnId, Notification),
    /// An open connection was closed or failed, with the reason as text.
    Closed(ConnId, String),
    /// All bytes queued on a connection were given to the kernel.
    Flushed(ConnId),
    /// A BFD packet was received from this address.
    BfdReceived(IpAddr, Vec<u8>),
}

/// An action that the speaker requests.
#[derive(Debug)]
pub(crate) enum SpeakerAction {
    /// Open a connection.
    Dial(ConnId, Box<Dial>),
    /// Send bytes.
    Send(ConnId, Vec<u8>),
    /// Close a connection after all queued bytes are sent.
    Close(ConnId),
    /// Send a BFD packet.
    SendBfd(Box<BfdPacket>),
    /// Write a line to the log.
    Log(Severity, String),
}

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// An error that the operator should look at.
    Warning,
    /// A normal event.
    Info,
}

/// The parameters of a connection to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    /// The remote address.
    pub to: SocketAddr,
    /// The local address; `None` if the kernel chooses it.
    pub local: Option<IpAddr>,
    /// The key of TCP MD5 signatures; `None` if segments are not signed.
    pub password: Option<Secret>,
    /// The limit on the number of hops to the peer.
    pub distance: TtlPolicy,
    /// The hold time that this node offers, in seconds.
    pub hold_time: u16,
}

/// A BFD packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BfdPacket {
    /// The remote address.
    pub to: SocketAddr,
    /// The local address; `None` if the kernel chooses it.
    pub local: Option<IpAddr>,
    /// The payload.
    pub bytes: [u8; bfd::LEN],
}

/// The state of a peer, for status output.
#[derive(Clone, Debug)]
pub(crate) struct PeerView {
    /// The peer's address.
    pub addr: IpAddr,
    /// The peer's configuration.
    pub peer: Peer,
    /// The state of the BGP session.
    pub state: FsmState,
    /// The state of the BFD session; `None` if BFD is off.
    pub bfd: Option<bfd::BfdState>,
    /// The time since the session was established or ended, or since the peer was configured.
    pub age: Duration,
    /// The numbers of received, accepted and advertised routes.
    pub counts: PrefixCounts,
    /// The last error; `None` if there was none since the session was established.
    pub error: Option<String>,
}
