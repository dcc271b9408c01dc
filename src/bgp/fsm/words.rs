//! What the machine of a peer hears and says.

use crate::bgp::{
    Family,
    capability::Restart,
    message::{Message, Notification, Open, Update},
};

/// Names one connection, of all that there ever were.
pub type Conn = u64;

/// How far a peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // RFC 4271 section 8.2.2
pub enum State {
    Idle,
    Active,
    Connect,
    OpenSent,
    OpenConfirm,
    Established,
}

impl State {
    /// As the RFC writes it.
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "Idle",
            State::Active => "Active",
            State::Connect => "Connect",
            State::OpenSent => "OpenSent",
            State::OpenConfirm => "OpenConfirm",
            State::Established => "Established",
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The connection that was asked for is there.
    Connected(Conn),
    /// It could not be had, and why.
    Failed(Conn, String),
    /// The peer connected.
    Accepted(Conn),
    /// A connection is gone, and why.
    Closed(Conn, String),
    /// Something was said.
    Message(Conn, Message),
    /// Something was said that can't be understood.
    Broken(Conn, Notification),
    /// Nothing; but the time went on.
    Time,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Connect.
    Connect,
    /// Say something.
    Send(Conn, Message),
    /// Let a connection go, once all is sent.
    Close(Conn),
    /// The session is up, over this connection, with what the peer said at first.
    Up(Conn, Open),
    /// The session is down.
    Down(Down),
    /// Routes came and went.
    Update(Update),
    /// The peer wants to hear all of a family again.
    Refresh(Family),
    /// A try came to nothing, and why.
    Failed(String),
}

/// Why a session ended.
#[derive(Debug, PartialEq)]
pub struct Down {
    /// In words.
    pub why: String,
    /// How the peer restarts, where it may be doing that: nobody said that the session is to end, and
    /// it was not silence that ended it (RFC 4724 section 4.2).
    pub restart: Option<Restart>,
}
