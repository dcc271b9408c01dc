//! All peers together: what comes over connections goes to the machine of its peer, what that has to
//! say of routes goes to the table, and what follows comes out as actions. No I/O and no clock.

mod act;
mod way;
mod words;

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::few::{Few, Sorted};

use super::{
    Config, Distance, bfd,
    fsm::{Conn, Fsm, Input},
    message::{Agreed, Message, Notification},
    rib::{Learned, Rib},
};
pub use words::{Action, Dial, Event, Probe, View};

/// So much is written for one peer before it is seen whether it takes it.
const ROOM: usize = 64 << 10;
/// After so long all who know something have said it, where no restart time is configured.
const COMPLETE: Duration = Duration::from_secs(90);
/// Strangers that are remembered, so that each is spoken of once.
const STRANGERS: usize = 64;

/// One peer as the speaker sees it.
struct Known {
    fsm: Fsm,
    /// The watch over the way to it.
    bfd: Option<bfd::Session>,
    /// The connection of its session.
    up: Option<Conn>,
    /// Since when it is up or down.
    since: Duration,
    /// Whether it was ever up.
    was_up: bool,
    /// Whether bytes are on their way to it.
    busy: bool,
    /// When what is left of before its restart goes.
    stale: Option<Duration>,
    /// What went wrong last.
    error: Option<String>,
    /// What was told of that since the session was up.
    told: Vec<String>,
}

/// The whole of it.
pub struct Speaker {
    config: Arc<Config>,
    rib: Rib,
    peers: Few<IpAddr, Known>,
    /// Whose a connection is, and at which address of ours.
    conns: Few<Conn, (IpAddr, Option<IpAddr>)>,
    next: Conn,
    seed: u32,
    strangers: Sorted<IpAddr>,
    complete: bool,
    /// What was given last beside the routes: who was lost, and whether it was complete.
    told: (Sorted<IpAddr>, bool),
    actions: Vec<Action>,
}

impl Speaker {
    /// It begins to connect at once. `seed`: a number that other nodes do not have.
    pub fn new(config: Config, seed: u32) -> Speaker {
        let config = Arc::new(config);
        let mut speaker = Speaker {
            rib: Rib::new(Arc::clone(&config)),
            config: Arc::clone(&config),
            peers: Few::new(),
            conns: Few::new(),
            next: 0,
            seed,
            strangers: Sorted::new(),
            complete: false,
            told: Default::default(),
            actions: Vec::new(),
        };
        speaker.meet(Duration::ZERO);
        speaker
    }

    /// What it was told last.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// It is told something else: peers that are not the same any more end and begin anew, all others
    /// stay as they are.
    pub fn configure(&mut self, config: Config, now: Duration) {
        let own = config.own != self.config.own;
        let gone: Vec<IpAddr> = self
            .peers
            .iter()
            .filter(|(addr, known)| own || config.peers.get(addr) != Some(known.fsm.peer()))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in gone {
            let word = if config.peers.contains_key(&addr) {
                Notification::CONFIGURATION_CHANGE
            } else {
                Notification::PEER_DECONFIGURED
            };
            self.end(addr, &word, now);
        }
        let config = Arc::new(config);
        for addr in self.rib.configure(Arc::clone(&config)) {
            self.ask_again(addr);
        }
        self.config = config;
        self.meet(now);
        self.turn(now);
    }

    /// Begins with the peers that are new.
    fn meet(&mut self, now: Duration) {
        let config = Arc::clone(&self.config);
        let restarting = self.restart_over(&config);
        for (addr, peer) in &config.peers {
            if self.peers.contains_key(addr) {
                continue;
            }
            self.seed = self.seed.wrapping_mul(0x9E37_79B1).wrapping_add(1);
            let fsm = Fsm::new(config.own.clone(), peer.clone(), now, self.seed, restarting);
            let known = Known {
                fsm,
                bfd: peer.bfd.map(|told| bfd::Session::new(told, self.seed, now)),
                up: None,
                since: now,
                was_up: false,
                busy: false,
                stale: None,
                error: None,
                told: Vec::new(),
            };
            self.peers.insert(*addr, known);
            self.strangers.remove(addr);
        }
    }

    /// Until when a restart of this speaker is none of its peers' business.
    fn restart_over(&self, config: &Config) -> Duration {
        config.own.restart.map_or(COMPLETE, |time| Duration::from_secs(u64::from(time)))
    }

    /// Ends a peer with a word to it.
    fn end(&mut self, addr: IpAddr, word: &Notification, now: Duration) {
        self.unwatch(addr);
        let Some(mut known) = self.peers.remove(&addr) else { return };
        let outputs = known.fsm.stop(word);
        self.peers.insert(addr, known);
        self.act(addr, outputs, now);
        self.peers.remove(&addr);
        self.rib.down(addr, &[]);
        self.rib.expire(addr);
        let left: Vec<Conn> =
            self.conns.iter().filter(|(_, (of, _))| *of == addr).map(|(c, _)| *c).collect();
        for conn in left {
            self.conns.remove(&conn);
            self.actions.push(Action::Close(conn));
        }
    }

    /// Ends everything, with a word that says why.
    pub fn shut_down(&mut self, word: &Notification, now: Duration) {
        let all: Vec<IpAddr> = self.peers.keys().copied().collect();
        for addr in all {
            self.end(addr, word, now);
        }
    }

    /// Somebody connected; the number of the connection and how far away the peer may be, where it is one
    /// of the peers.
    pub fn accept(
        &mut self,
        from: IpAddr,
        local: IpAddr,
        now: Duration,
    ) -> Option<(Conn, Distance)> {
        if !self.peers.contains_key(&from) {
            if self.strangers.len() < STRANGERS && self.strangers.insert(from) {
                let text = format!("{from} connected, and is none of the peers: refused");
                self.actions.push(Action::Say(true, text));
            }
            return None;
        }
        let conn = self.number(from, Some(local));
        self.input(from, Input::Accepted(conn), now);
        let distance = self.peers.get(&from)?.fsm.peer().distance;
        self.conns.contains_key(&conn).then_some((conn, distance))
    }

    fn number(&mut self, peer: IpAddr, local: Option<IpAddr>) -> Conn {
        self.next += 1;
        self.conns.insert(self.next, (peer, local));
        self.next
    }

    /// Something happened. What follows for others is seen to by [`Speaker::turn`].
    pub fn hear(&mut self, event: Event, now: Duration) {
        let conn = match event {
            Event::Probe(..) => None,
            Event::Connected(conn, _)
            | Event::Failed(conn, _)
            | Event::Message(conn, _)
            | Event::Broken(conn, _)
            | Event::Closed(conn, _)
            | Event::Sent(conn) => Some(conn),
        };
        let of = conn.and_then(|conn| Some((conn, self.conns.get(&conn)?.0)));
        match (event, of) {
            (Event::Probe(from, bytes), _) => self.probed(from, &bytes, now),
            (Event::Connected(_, local), Some((conn, addr))) => {
                self.conns.insert(conn, (addr, Some(local)));
                self.input(addr, Input::Connected(conn), now);
            }
            (Event::Failed(_, why), Some((conn, addr))) => {
                self.conns.remove(&conn);
                self.input(addr, Input::Failed(conn, why), now);
            }
            (Event::Closed(_, why), Some((conn, addr))) => {
                self.conns.remove(&conn);
                self.input(addr, Input::Closed(conn, why), now);
            }
            (Event::Broken(_, word), Some((conn, addr))) => {
                self.input(addr, Input::Broken(conn, word), now);
            }
            (Event::Message(_, bytes), Some((conn, addr))) => {
                let input = match Message::read(&bytes, self.agreed(addr, conn)) {
                    Ok(message) => Input::Message(conn, message),
                    Err(word) => Input::Broken(conn, word),
                };
                self.input(addr, input, now);
            }
            (Event::Sent(_), Some((conn, addr))) => {
                if let Some(known) = self.peers.get_mut(&addr).filter(|k| k.up == Some(conn)) {
                    known.busy = false;
                }
            }
            (_, None) => {}
        }
    }

    fn agreed(&self, addr: IpAddr, conn: Conn) -> Agreed {
        let Some(known) = self.peers.get(&addr) else { return Agreed::default() };
        Agreed {
            four_octet: known.fsm.four_octet(conn),
            internal: known.fsm.peer().asn == self.config.own.asn,
        }
    }

    fn input(&mut self, addr: IpAddr, input: Input, now: Duration) {
        let Some(known) = self.peers.get_mut(&addr) else { return };
        let outputs = known.fsm.hear(input, now);
        self.act(addr, outputs, now);
    }

    /// What follows from everything that happened: time is up for some, others have something to hear.
    pub fn turn(&mut self, now: Duration) {
        let over = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let due: Vec<IpAddr> = self
            .peers
            .iter()
            .filter(|(_, known)| over(known.fsm.deadline()))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in due {
            self.input(addr, Input::Time, now);
        }
        self.watch(now);
        if !self.complete {
            self.complete = now >= self.restart_over(&self.config)
                || self.peers.keys().all(|addr| self.rib.is_complete(*addr));
            if self.complete {
                self.rib.complete(); // then nothing stays that nobody claims
            }
        }
        for (addr, known) in self.peers.iter_mut() {
            if over(known.stale) {
                known.stale = None;
                self.rib.expire(*addr);
            }
            if let (Some(conn), false) = (known.up, known.busy)
                && self.rib.has_news(*addr)
            {
                let mut bytes = Vec::new();
                self.rib.tell(*addr, ROOM, &mut bytes);
                if !bytes.is_empty() {
                    known.busy = true;
                    self.actions.push(Action::Send(conn, bytes));
                }
            }
        }
    }

    /// When to look again, whatever happens.
    pub fn deadline(&self) -> Option<Duration> {
        let complete = (!self.complete).then(|| self.restart_over(&self.config));
        let of = |known: &Known| {
            [known.fsm.deadline(), known.stale, known.bfd.as_ref().map(bfd::Session::deadline)]
        };
        let peers = self.peers.values().flat_map(of);
        peers.chain([complete]).flatten().min()
    }

    /// What is to be done, in order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether anything was learned since [`Speaker::learned`] gave it last.
    pub fn has_learned(&self) -> bool {
        self.rib.has_changed() || self.told != (self.lost(), self.complete)
    }

    /// The peers whose session was up and is down, and which are not just restarting.
    fn lost(&self) -> Sorted<IpAddr> {
        let lost = |known: &Known| known.was_up && known.up.is_none() && known.stale.is_none();
        self.peers.iter().filter(|(_, known)| lost(known)).map(|(addr, _)| *addr).collect()
    }

    /// All that was learned. Only this copy of the routes is made: they may be many.
    pub fn learned(&mut self) -> Learned {
        let routes = self.rib.routes();
        self.rib.take_changes();
        self.told = (self.lost(), self.complete);
        let gone = self.rib.gone().filter(|net| !routes.contains_key(net)).copied().collect();
        let (lost, complete) = self.told.clone();
        Learned { routes, gone, lost, complete }
    }

    /// All peers, to be looked at.
    pub fn view(&self, now: Duration) -> Vec<View> {
        let view = |(addr, known): (&IpAddr, &Known)| View {
            addr: *addr,
            peer: known.fsm.peer().clone(),
            state: known.fsm.state(),
            way: known.bfd.as_ref().map(bfd::Session::state),
            age: now.saturating_sub(known.since),
            counts: self.rib.counts(*addr),
            error: known.error.clone(),
        };
        self.peers.iter().map(view).collect()
    }

    /// The routes, to be looked at.
    pub fn rib(&self) -> &Rib {
        &self.rib
    }
}

#[cfg(test)]
mod tests;
