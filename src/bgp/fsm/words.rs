//! The inputs and outputs of the state machine of one peer.

use crate::bgp::{
    Family,
    capability::Restart,
    message::{Message, Notification, Open, Update},
};

/// The number of a TCP connection. Numbers are never reused while the process runs.
pub type ConnId = u64;

/// A state of the BGP state machine. The order is the order of progress.
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
    /// Returns the name that RFC 4271 gives the state.
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

/// An event for the state machine (RFC 4271 section 8.1).
#[derive(Debug)]
pub enum Input {
    /// The connection that [`Output::Connect`] requested is open.
    Connected(ConnId),
    /// The connection that [`Output::Connect`] requested failed, with the error as text.
    ConnectFailed(ConnId, String),
    /// The peer opened a connection.
    Accepted(ConnId),
    /// An open connection was closed by the peer or failed, with the reason as text.
    Closed(ConnId, String),
    /// A valid message was received.
    Message(ConnId, Message),
    /// The connection must end with this NOTIFICATION, because the received bytes are malformed or
    /// because BFD detected a failure.
    Abort(ConnId, Notification),
    /// No event other than the passage of time.
    Timeout,
}

/// An action that the state machine requests.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Open a connection to the peer.
    Connect,
    /// Send a message.
    Send(ConnId, Message),
    /// Close a connection after all queued bytes are sent.
    Close(ConnId),
    /// The session is established over this connection; the peer sent this OPEN.
    SessionUp(ConnId, Open),
    /// The session ended.
    SessionDown(SessionDown),
    /// The peer sent an UPDATE.
    Update(Update),
    /// The peer sent a ROUTE-REFRESH for a family (RFC 2918).
    Refresh(Family),
    /// An attempt to establish a session failed, with the reason as text.
    AttemptFailed(String),
}

/// The end of a session.
#[derive(Debug, PartialEq)]
pub struct SessionDown {
    /// The reason as text.
    pub why: String,
    /// The graceful-restart capability of the peer if the peer may be restarting; its routes may then
    /// be kept (RFC 4724 section 4.2). `None` if a NOTIFICATION or the hold timer ended the session,
    /// or if the peer has no such capability.
    pub restart: Option<Restart>,
}
