//! The machine of one peer (RFC 4271 section 8), without I/O and without a clock.
//!
//! What happens goes in with the time, what is to be done comes out, and one deadline says when to look
//! again. A peer may have several connections at once, since both sides may connect: each has a state
//! of its own up to the moment when one of them wins (section 6.8). The states Connect and Active, in
//! which there is no connection yet, are the machine's own.

mod words;

use std::{net::Ipv4Addr, time::Duration};

use super::{
    Family, Own, Peer,
    capability::{Capabilities, Restart},
    message::{Message, Notification, Open},
};
pub use words::{Conn, Down, Input, Output, State};

/// Until the other side's OPEN is there (the "large value" of RFC 4271 section 8.2.2).
const OPEN_WAIT: Duration = Duration::from_secs(30);
/// The first pause before another try to connect, and the longest (ConnectRetryTime).
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(120));
/// A session that is younger may still have a rival that was begun at the same time.
const YOUNG: Duration = Duration::from_secs(10);
/// Connections that are not up yet; a peer has no use for more.
const WAITING: usize = 2;

/// One connection.
struct Link {
    conn: Conn,
    /// Whether it was us who connected.
    ours: bool,
    state: State,
    /// What the peer said at first.
    open: Option<Open>,
    /// Agreed on; zero: nobody has to say anything.
    hold: Duration,
    /// When it has been silent for too long.
    silent: Option<Duration>,
    /// When to say that we are here.
    keepalive: Option<Duration>,
    since: Duration,
}

/// One peer.
pub struct Fsm {
    own: Own,
    peer: Peer,
    links: Vec<Link>,
    /// Whether a connection is being made.
    connecting: bool,
    /// When to connect next.
    retry: Option<Duration>,
    /// Before that no connection of the peer is taken: it has just done something wrong.
    quiet: Duration,
    /// Tries that came to nothing, one after another.
    failures: u32,
    /// Until when our restart is news to the peer; `None`: it was told.
    restarting: Option<Duration>,
    /// For pauses that differ from one node to the next.
    seed: u32,
    out: Vec<Output>,
}

impl Fsm {
    /// It will connect at once. `seed`: any number that others do not have; `restarting`: until when
    /// peers may think that we are restarting.
    pub fn new(own: Own, peer: Peer, now: Duration, seed: u32, restarting: Duration) -> Fsm {
        let restarting = own.restart.map(|_| restarting);
        Fsm {
            own,
            peer,
            links: Vec::new(),
            connecting: false,
            retry: Some(now),
            quiet: Duration::ZERO,
            failures: 0,
            restarting,
            seed: seed | 1,
            out: Vec::new(),
        }
    }

    /// The peer's configuration.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// How far it has come.
    pub fn state(&self) -> State {
        let waiting = if self.connecting { State::Connect } else { State::Active };
        self.links.iter().map(|link| link.state).fold(waiting, State::max)
    }

    /// Whether a connection is of this peer.
    pub fn has(&self, conn: Conn) -> bool {
        self.links.iter().any(|link| link.conn == conn)
    }

    /// Whether the AS numbers of a connection have four octets.
    pub fn four_octet(&self, conn: Conn) -> bool {
        let link = self.links.iter().find(|link| link.conn == conn);
        link.and_then(|l| l.open.as_ref()).is_none_or(|open| open.capabilities.four_octet)
    }

    /// When to look again, whatever happens.
    pub fn deadline(&self) -> Option<Duration> {
        let links = self.links.iter().flat_map(|link| [link.silent, link.keepalive]);
        links.chain([self.retry]).flatten().min()
    }

    /// Ends all that there is, with a word to the peer.
    pub fn stop(&mut self, word: &Notification) -> Vec<Output> {
        self.retry = None;
        for link in std::mem::take(&mut self.links) {
            self.out.push(Output::Send(link.conn, Message::Notification(word.clone())));
            self.out.push(Output::Close(link.conn));
            if link.state == State::Established {
                self.out.push(Output::Down(Down { why: word.to_string(), restart: None }));
            }
        }
        std::mem::take(&mut self.out)
    }

    /// Something happened; what is to be done about it, in order.
    pub fn hear(&mut self, input: Input, now: Duration) -> Vec<Output> {
        match input {
            Input::Connected(conn) => {
                self.connecting = false;
                self.begin(conn, true, now);
            }
            Input::Failed(_, why) => {
                self.connecting = false;
                self.failed(why, now);
            }
            Input::Accepted(conn) => self.accepted(conn, now),
            Input::Closed(conn, why) => self.closed(conn, why, now),
            Input::Broken(conn, word) => self.refuse(conn, word, now),
            Input::Message(conn, message) => self.message(conn, message, now),
            Input::Time => {}
        }
        self.time(now);
        std::mem::take(&mut self.out)
    }

    fn find(&mut self, conn: Conn) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.conn == conn)
    }

    fn accepted(&mut self, conn: Conn, now: Duration) {
        let waiting = self.links.iter().filter(|l| l.state != State::Established).count();
        if now < self.quiet || waiting >= WAITING {
            self.out.push(Output::Close(conn));
        } else {
            self.begin(conn, false, now);
        }
    }

    /// A connection is there: the first word is said.
    fn begin(&mut self, conn: Conn, ours: bool, now: Duration) {
        let up = self.links.iter().any(|link| link.state == State::Established);
        if ours && up {
            self.out.push(Output::Close(conn));
            return;
        }
        let open = self.open(now);
        self.out.push(Output::Send(conn, Message::Open(open)));
        self.links.push(Link {
            conn,
            ours,
            state: State::OpenSent,
            open: None,
            hold: OPEN_WAIT,
            silent: Some(now + OPEN_WAIT),
            keepalive: None,
            since: now,
        });
    }

    fn open(&self, now: Duration) -> Open {
        let families: Vec<Family> = self.own.families.iter().copied().collect();
        Open {
            asn: self.own.asn,
            hold: self.peer.hold,
            id: self.own.id,
            capabilities: Capabilities {
                refresh: true,
                four_octet: true,
                // Without families it says that we know what to do when the peer restarts, and that
                // we wait for its End-of-RIB (RFC 4724 section 3).
                restart: Some(self.own.restart.map_or_else(Restart::default, |time| Restart {
                    restarting: self.restarting.is_some_and(|until| now < until),
                    time: time.min(4095),
                    // The kernel forwards, whether we are there or not.
                    families: families.iter().map(|family| (*family, true)).collect(),
                })),
                families,
            },
        }
    }

    fn message(&mut self, conn: Conn, message: Message, now: Duration) {
        let Some(link) = self.find(conn) else { return };
        if link.state != State::OpenSent && link.hold > Duration::ZERO {
            link.silent = Some(now + link.hold);
        }
        match (link.state, message) {
            (State::OpenSent, Message::Open(open)) => self.opened(conn, open, now),
            (State::OpenConfirm, Message::Keepalive) => self.established(conn, now),
            (State::Established, Message::Keepalive | Message::Unknown) => {}
            (State::Established, Message::Update(update)) => {
                self.out.push(Output::Update(update));
            }
            (State::Established, Message::Refresh(family)) => {
                self.out.push(Output::Refresh(family));
            }
            (_, Message::Notification(word)) => {
                self.out.push(Output::Close(conn));
                self.lost(conn, format!("the peer says: {word}"), None, now);
            }
            // RFC 6608: the subcode tells the state.
            (state, _) => {
                let word = match state {
                    State::OpenSent => Notification::UNEXPECTED_IN_OPEN_SENT,
                    State::OpenConfirm => Notification::UNEXPECTED_IN_OPEN_CONFIRM,
                    _ => Notification::UNEXPECTED_IN_ESTABLISHED,
                };
                self.refuse(conn, word, now);
            }
        }
    }

    /// The peer's OPEN: is it whom we expect, and is there another connection that is better?
    fn opened(&mut self, conn: Conn, open: Open, now: Duration) {
        if let Err((word, why)) = self.acceptable(&open) {
            return self.refuse_for(conn, word, why, now);
        }
        let Some(ours) = self.find(conn).map(|link| link.ours) else { return };
        for i in (0..self.links.len()).rev() {
            let rival = &self.links[i];
            if rival.conn == conn || rival.state < State::OpenConfirm {
                continue;
            }
            let old = rival.state == State::Established && now >= rival.since + YOUNG;
            let restart = rival.open.as_ref().and_then(|o| o.capabilities.restart.clone());
            // RFC 4724 section 4.2: it went down without a word, and is back.
            if old && restart.is_some() {
                let gone = self.links.remove(i);
                self.out.push(Output::Close(gone.conn));
                let why = "the peer has connected anew".to_owned();
                self.out.push(Output::Down(Down { why, restart }));
                continue;
            }
            if old || self.wins(rival.ours, ours, &open) {
                self.out.push(Output::Send(conn, Message::Notification(Notification::COLLISION)));
                self.out.push(Output::Close(conn));
                self.links.retain(|link| link.conn != conn);
                return;
            }
            self.give_up(i);
        }
        let hold = Duration::from_secs(u64::from(open.hold.min(self.peer.hold)));
        let Some(link) = self.links.iter_mut().find(|link| link.conn == conn) else { return };
        link.state = State::OpenConfirm;
        link.hold = hold;
        link.open = Some(open);
        let beats = hold > Duration::ZERO;
        link.silent = beats.then_some(now + hold);
        link.keepalive = beats.then_some(now + hold / 3);
        self.out.push(Output::Send(conn, Message::Keepalive));
    }

    /// What is wrong with an OPEN, for the peer and for us.
    fn acceptable(&self, open: &Open) -> Result<(), (Notification, String)> {
        let Open { asn, id, .. } = *open;
        if asn != self.peer.asn {
            let why = format!("it is of AS {asn}, and AS {} is configured for it", self.peer.asn);
            return Err((Notification::BAD_PEER_AS, why));
        }
        // RFC 6286: equal ones are a mistake within an AS, and only there.
        if id == Ipv4Addr::UNSPECIFIED || asn == self.own.asn && id == self.own.id {
            let why = format!("its identifier {id} is none, or ours (--router-id)");
            return Err((Notification::BAD_BGP_ID, why));
        }
        Ok(())
    }

    /// Of two connections, the one stays that was begun by the higher identifier (RFC 4271 section
    /// 6.8), or by the higher AS where they are equal (RFC 6286). True: the first one.
    fn wins(&self, first_ours: bool, second_ours: bool, open: &Open) -> bool {
        if first_ours == second_ours {
            return false; // the peer knows why it connects again
        }
        let higher = (self.own.id, self.own.asn) > (open.id, open.asn);
        first_ours == higher
    }

    fn give_up(&mut self, at: usize) {
        let link = self.links.remove(at);
        self.out.push(Output::Send(link.conn, Message::Notification(Notification::COLLISION)));
        self.out.push(Output::Close(link.conn));
        if link.state == State::Established {
            // The other one is about to be up: until then nothing is lost.
            let restart = link.open.and_then(|open| open.capabilities.restart);
            let why = "another connection took its place".to_owned();
            self.out.push(Output::Down(Down { why, restart }));
        }
    }

    fn established(&mut self, conn: Conn, now: Duration) {
        for i in (0..self.links.len()).rev() {
            if self.links[i].conn != conn && self.links[i].state >= State::OpenConfirm {
                self.give_up(i);
            }
        }
        let Some(link) = self.find(conn) else { return };
        link.state = State::Established;
        link.since = now;
        if let Some(open) = link.open.clone() {
            self.out.push(Output::Up(conn, open));
        }
        (self.failures, self.retry, self.restarting) = (0, None, None);
    }

    /// Something is wrong with a connection: say so, and let it go.
    fn refuse(&mut self, conn: Conn, word: Notification, now: Duration) {
        let why = format!("we said: {word}");
        self.refuse_for(conn, word, why, now);
    }

    fn refuse_for(&mut self, conn: Conn, word: Notification, why: String, now: Duration) {
        if !self.has(conn) {
            return;
        }
        self.out.push(Output::Send(conn, Message::Notification(word)));
        self.out.push(Output::Close(conn));
        self.lost(conn, why, None, now);
        self.quiet = now + self.pause() / 4;
    }

    fn closed(&mut self, conn: Conn, why: String, now: Duration) {
        let Some(link) = self.find(conn) else { return };
        let restart = link.open.as_ref().and_then(|open| open.capabilities.restart.clone());
        self.lost(conn, why, restart, now);
    }

    fn lost(&mut self, conn: Conn, why: String, restart: Option<Restart>, now: Duration) {
        let Some(at) = self.links.iter().position(|link| link.conn == conn) else { return };
        let link = self.links.remove(at);
        if link.state == State::Established {
            self.out.push(Output::Down(Down { why, restart }));
            let pause = self.pause();
            self.retry.get_or_insert(now + pause / 2);
        } else {
            self.failed(why, now);
        }
    }

    fn failed(&mut self, why: String, now: Duration) {
        if self.links.is_empty() {
            self.failures += 1;
            self.retry = Some(now + self.pause());
            self.out.push(Output::Failed(why));
        }
    }

    /// How long to wait before another try: longer each time, and never quite the same (RFC 4271
    /// section 10: 0.75 to 1 of it).
    fn pause(&mut self) -> Duration {
        // Xorshift: any sequence will do that differs between nodes.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        let whole = (RETRY.0 * (1 << self.failures.saturating_sub(1).min(5))).min(RETRY.1);
        whole * (768 + self.seed % 256) / 1024
    }

    fn time(&mut self, now: Duration) {
        let over = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        while let Some(link) = self.links.iter().find(|link| over(link.silent)) {
            let conn = link.conn;
            self.refuse(conn, Notification::HOLD_TIMER_EXPIRED, now);
        }
        for link in self.links.iter_mut().filter(|link| over(link.keepalive)) {
            link.keepalive = Some(now + link.hold / 3);
            self.out.push(Output::Send(link.conn, Message::Keepalive));
        }
        if over(self.retry) {
            self.retry = None;
            if self.peer.passive || self.connecting || !self.links.is_empty() {
                return;
            }
            self.connecting = true;
            self.out.push(Output::Connect);
        }
    }
}

#[cfg(test)]
mod tests;
