//! The BFD sessions of the peers. A session that fails ends the BGP session at once (RFC 5882 section
//! 4.3), long before the hold time would. The state machine of a BFD session is in `bfd`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{BfdPacket, Severity, Speaker, SpeakerAction, machine::PeerState};
use crate::bgp::{
    bfd::{BfdChange, ControlPacket, LEN},
    fsm::FsmInput,
    notification::Notification,
};

impl Speaker {
    /// Processes a received BFD packet. Packets from unknown addresses and invalid packets are ignored.
    pub(super) fn receive_bfd(&mut self, from: IpAddr, bytes: &[u8], now: Duration) {
        let bfd = self.peers.get_mut(&from).and_then(|peer| peer.bfd.as_mut());
        let packet = bfd.zip(ControlPacket::read(bytes));
        let change = packet.and_then(|(bfd, packet)| bfd.handle_packet(packet, now));
        change.into_iter().for_each(|change| self.bfd_changed(from, change, now));
    }

    /// Expires BFD sessions and sends the packets that are due.
    pub(super) fn poll_bfd(&mut self, now: Duration) {
        let mut changes = Vec::new();
        for (addr, peer) in self.peers.iter_mut() {
            let Some(bfd) = &mut peer.bfd else { continue };
            changes.extend(bfd.handle_timeout(now).map(|change| (*addr, change)));
            if let Some(bytes) = bfd.poll_transmit(now) {
                self.actions.extend(send_bfd(*addr, peer, bytes));
            }
        }
        for (addr, change) in changes {
            self.bfd_changed(addr, change, now);
        }
    }

    /// Ends the BFD session of a peer with an AdminDown packet, so that the peer does not treat the end as
    /// a failure of the path.
    pub(super) fn stop_bfd(&mut self, addr: IpAddr) {
        let Some(peer) = self.peers.get_mut(&addr) else { return };
        let last = peer.bfd.take().and_then(|bfd| send_bfd(addr, peer, bfd.admin_down_packet()));
        self.actions.extend(last);
    }

    /// Ends all BFD sessions and leaves the BGP sessions open. It is called before a graceful restart,
    /// during which the peers keep this node's routes.
    pub(crate) fn prepare_restart(&mut self) {
        let all: Vec<IpAddr> = self.peers.keys().copied().collect();
        all.into_iter().for_each(|addr| self.stop_bfd(addr));
    }

    fn bfd_changed(&mut self, addr: IpAddr, change: BfdChange, now: Duration) {
        match change {
            BfdChange::Up => self.log(addr, Severity::Info, "BFD: session up"),
            BfdChange::AdminDown => {
                self.log(addr, Severity::Info, "BFD: the peer disabled its session");
            }
            BfdChange::Down(diag) => {
                self.log(addr, Severity::Warning, &format!("BFD: {diag}"));
                if let Some(conn) = self.peers.get(&addr).and_then(|peer| peer.session) {
                    self.input(addr, FsmInput::Abort(conn, Notification::BFD_DOWN), now);
                }
            }
        }
    }
}

/// Returns the action that sends a BFD packet; `None` if BFD is off for the peer.
fn send_bfd(addr: IpAddr, peer: &PeerState, bytes: [u8; LEN]) -> Option<SpeakerAction> {
    let config = peer.fsm.peer();
    let to = SocketAddr::new(addr, config.bfd?.port);
    Some(SpeakerAction::SendBfd(Box::new(BfdPacket { to, local: config.local, bytes })))
}
