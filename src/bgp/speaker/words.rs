//! What the speaker hears from outside, what it wants done there, and how it looks.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    bgp::{
        Distance, Peer, bfd,
        fsm::{Conn, State},
        message::Notification,
        rib::Counts,
    },
    router::Secret,
};

/// What happened outside.
#[derive(Debug)]
pub enum Event {
    /// A connection that was asked for is there, at this address of ours.
    Connected(Conn, IpAddr),
    /// It could not be had.
    Failed(Conn, String),
    /// A whole message came.
    Message(Conn, Vec<u8>),
    /// What came is no message.
    Broken(Conn, Notification),
    /// A connection has ended.
    Closed(Conn, String),
    /// All that was to be sent over a connection is on its way.
    Sent(Conn),
    /// A packet of BFD came from this address.
    Probe(IpAddr, Vec<u8>),
}

/// What is to be done outside.
#[derive(Debug)]
pub enum Action {
    /// Make a connection.
    Dial(Conn, Box<Dial>),
    /// Send bytes.
    Send(Conn, Vec<u8>),
    /// Let a connection go once all is sent.
    Close(Conn),
    /// Send a packet of BFD.
    Probe(Box<Probe>),
    /// Tell whoever reads the log; true: it is something to look after.
    Say(bool, String),
}

/// How a connection is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// To where.
    pub to: SocketAddr,
    /// From which address; `None`: the kernel's choice.
    pub local: Option<IpAddr>,
    /// The key of TCP MD5 signatures.
    pub password: Option<Secret>,
    /// How far away the peer may be.
    pub distance: Distance,
}

/// A packet of BFD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// To where.
    pub to: SocketAddr,
    /// From which address; `None`: the kernel's choice.
    pub local: Option<IpAddr>,
    /// What.
    pub bytes: [u8; bfd::LEN],
}

/// A peer, to be looked at.
#[derive(Clone, Debug)]
pub struct View {
    /// Its address.
    pub addr: IpAddr,
    /// What was configured of it.
    pub peer: Peer,
    /// How far it has come.
    pub state: State,
    /// How the way to it is, where it is watched.
    pub way: Option<bfd::State>,
    /// For how long its session is up or down.
    pub age: Duration,
    /// How many routes came, were let in, and went out.
    pub counts: Counts,
    /// What went wrong last.
    pub error: Option<String>,
}
