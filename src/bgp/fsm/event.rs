//! The inputs and outputs of the state machine of one peer.

use std::{
    fmt::{self, Display, Formatter},
    net::Ipv4Addr,
};

use crate::bgp::{
    capability::Restart,
    message::{Message, Open},
    notification::Notification,
    update::Update,
};
use crate::family::Family;

/// The number of a TCP connection. Numbers are never reused while the process runs.
pub(crate) type ConnId = u64;

/// A state of the BGP state machine. The order is the order of progress. There is no Idle (a peer without
/// a state machine is not configured).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // RFC 4271 section 8.2.2
pub(crate) enum FsmState {
    Active,
    Connect,
    OpenSent,
    OpenConfirm,
    Established,
}

impl FsmState {
    /// Returns the name that RFC 4271 gives the state.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FsmState::Active => "Active",
            FsmState::Connect => "Connect",
            FsmState::OpenSent => "OpenSent",
            FsmState::OpenConfirm => "OpenConfirm",
            FsmState::Established => "Established",
        }
    }
}

/// An event for the state machine (RFC 4271 section 8.1).
#[derive(Debug)]
pub(crate) enum FsmInput {
    /// The connection that [`Output::Connect`] requested is open.
    Connected(ConnId),
    /// The connection that [`Output::Connect`] requested failed, with the error as text.
    ConnectFailed(String),
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
pub(crate) enum Output {
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
    /// An attempt to establish a session failed.
    AttemptFailed(DownReason),
}

/// The end of a session.
#[derive(Debug, PartialEq)]
pub(crate) struct SessionDown {
    /// The reason.
    pub reason: DownReason,
    /// The graceful-restart capability of the peer if the peer may be restarting; its routes may then
    /// be kept (RFC 4724 section 4.2). `None` if a NOTIFICATION or the hold timer ended the session,
    /// or if the peer has no such capability.
    pub restart: Option<Restart>,
}

/// The reason for the end of a session, or for the failure of an attempt to establish one.
#[derive(Debug, PartialEq)]
pub(crate) enum DownReason {
    /// The peer sent a NOTIFICATION.
    NotificationReceived(Notification),
    /// This node sent a NOTIFICATION.
    NotificationSent(Notification),
    /// The peer's OPEN has another AS number than the configuration.
    WrongAs {
        /// The AS number of the OPEN.
        received: u32,
        /// The configured AS number.
        configured: u32,
    },
    /// The BGP Identifier of the peer's OPEN is zero, or equals this node's within the same AS.
    BadIdentifier(Ipv4Addr),
    /// The peer opened a new connection while the old one was established: it has restarted.
    Reconnected,
    /// The connection lost a collision with another one of the same peer.
    Collision,
    /// The connection could not be opened, was closed or failed; the error as text.
    Transport(String),
}

impl Display for DownReason {
    /// Writes the reason for log lines and status output.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DownReason::NotificationReceived(notification) => {
                write!(f, "the peer sent NOTIFICATION: {notification}")
            }
            DownReason::NotificationSent(notification) => {
                write!(f, "this node sent NOTIFICATION: {notification}")
            }
            DownReason::WrongAs { received, configured } => {
                write!(f, "the peer's OPEN has AS {received}, but AS {configured} is configured")
            }
            DownReason::BadIdentifier(id) => {
                write!(
                    f,
                    "the peer's BGP Identifier {id} is zero or equals this node's (--router-id)"
                )
            }
            DownReason::Reconnected => f.write_str("the peer opened a new connection"),
            DownReason::Collision => f.write_str("another connection of the peer replaced it"),
            DownReason::Transport(error) => f.write_str(error),
        }
    }
}
