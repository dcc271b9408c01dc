//! The peers that the table knows: who has a session, or had one and has paths still (RFC 4724). Pure.
//!
//! A peer has a place in a list, and the place is its name in paths and bits, which are many.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Family,
    choice::{LOCAL, Said},
    message::Agreed,
    out::Outbox,
    policy::Refusal,
};
use crate::few::Few;

/// A peer whose session is up, as agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its address, by which it is known here.
    pub addr: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// Its BGP Identifier.
    pub id: Ipv4Addr,
    /// Whether it is of the same AS.
    pub internal: bool,
    /// How messages to it are written.
    pub agreed: Agreed,
    /// The families that both sides speak of.
    pub families: Vec<Family>,
    /// The own address of the connection.
    pub local: IpAddr,
    /// Whether it is a router outside the cluster.
    pub outside: bool,
    /// Whether it is a client of this reflector (RFC 4456).
    pub client: bool,
}

/// How many networks there are between this node and a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that it said; from the 1001st refused one on, one that it says again counts again.
    pub received: usize,
    /// Those of them that were let in.
    pub accepted: usize,
    /// Those that it was told.
    pub told: usize,
}

/// So many refused networks of a peer are known by name, the rest is only counted.
pub(super) const REFUSED: usize = 1000;

/// A peer that has a session or a path.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its session as it is, or as it was last.
    pub session: Session,
    /// Whether the session is up.
    pub up: bool,
    /// Families whose End-of-RIB it has not said.
    pub awaited: Vec<Family>,
    /// What it said last: often it says the same of the next networks.
    pub last: Option<Arc<Said>>,
    /// What was not let in, and why.
    pub refused: Few<IpNet, Refusal>,
    /// How many more there were.
    pub unnamed: usize,
    /// How many paths of it there are.
    pub accepted: usize,
    /// What it was told and is still to be told.
    pub out: Outbox,
}

/// The peers by their place, which is their name in paths and bits.
#[derive(Debug, Default)]
pub struct Slots(Vec<Option<Slot>>);

impl Slots {
    /// Who has a place.
    pub(super) fn get(&self, at: u16) -> Option<&Slot> {
        self.0.get(usize::from(at))?.as_ref()
    }

    /// Who has a place, to be changed.
    pub(super) fn get_mut(&mut self, at: u16) -> Option<&mut Slot> {
        self.0.get_mut(usize::from(at))?.as_mut()
    }

    /// The session of who has a place, as it is or was last.
    pub fn session(&self, at: u16) -> Option<&Session> {
        self.get(at).map(|slot| &slot.session)
    }

    /// The place of a peer.
    pub(super) fn find(&self, addr: IpAddr) -> Option<u16> {
        let is = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.session.addr == addr);
        self.0.iter().position(is).and_then(|at| u16::try_from(at).ok())
    }

    /// All who have a place.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().flatten()
    }

    /// All who have a place, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.0.iter_mut().flatten()
    }

    /// Gives a peer a free place; `None`: there is none left.
    pub(super) fn take(&mut self, session: Session) -> Option<u16> {
        let at = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        let place = u16::try_from(at).ok().filter(|place| *place != LOCAL)?;
        if at == self.0.len() {
            self.0.push(None);
        }
        self.0[at] = Some(Slot {
            session,
            up: false,
            awaited: Vec::new(),
            last: None,
            refused: Few::new(),
            unnamed: 0,
            accepted: 0,
            out: Outbox::default(),
        });
        Some(place)
    }

    /// Frees the places of all that have neither a session nor a path.
    pub(super) fn leave(&mut self) {
        for slot in &mut self.0 {
            if slot.as_ref().is_some_and(|slot| !slot.up && slot.accepted == 0) {
                *slot = None;
            }
        }
    }
}
