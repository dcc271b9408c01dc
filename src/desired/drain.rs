//! Graceful termination: the one place where what is wanted depends on what is there.
//!
//! A TCP real server that should go is wanted at weight 0 until it has no connections any more or its
//! time is over; then nobody wants it and the plan takes it away. When that time is must outlive the
//! process (cron mode keeps nothing in memory), so it is a record that goes in and comes out. Time is
//! passed in: seconds of the boot clock. UDP and SCTP reals go at once, as with kube-proxy.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    few::{Few, Sorted},
    json,
    ruleset::Set,
    state::{At, Forward, Item, Protocol, RealKey, State, Value, Virtual},
};

/// When each real server that should go must be gone, sorted by real server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drains(Vec<Drain>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Drain {
    of: At,
    addr: IpAddr,
    port: u16,
    /// Seconds of the boot clock.
    until: u64,
}

impl Drains {
    /// Reads what [`Drains::text`] made. What can't be understood is an empty record: each real that
    /// should go then gets its full time once more.
    pub fn read(text: &str) -> Drains {
        json::from_str(text).unwrap_or_default()
    }

    /// Whether nothing drains.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The services that they stand behind.
    pub fn services(&self) -> impl Iterator<Item = At> {
        self.0.iter().map(|drain| drain.of)
    }

    /// Those behind some services, and the others.
    pub fn split(self, services: &Sorted<At>) -> (Drains, Drains) {
        let (of, others) = self.0.into_iter().partition(|drain| services.contains(&drain.of));
        (Drains(of), Drains(others))
    }

    /// These and those of other services.
    pub fn with(mut self, mut others: Drains) -> Drains {
        self.0.append(&mut others.0);
        self.0.sort_by_key(|drain| (drain.of, drain.addr, drain.port));
        self
    }

    /// These are gone.
    pub fn forget(&mut self, gone: &Sorted<RealKey>) {
        self.0.retain(|drain| !gone.contains(&(drain.of, drain.addr, drain.port)));
    }

    /// Themselves, as IPVS holds them.
    pub fn reals(&self) -> impl Iterator<Item = Item> {
        let real = |d: &Drain| {
            let (weight, forward) = (0, Forward::Masq);
            Item::Real { of: d.of, addr: d.addr, port: d.port, weight, forward }
        };
        self.0.iter().map(real)
    }

    /// The record as it is kept, in one line.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The reals that are still draining, as they are wanted, and the new record.
///
/// `have` is what IPVS holds and is not wanted as it is, of which only what the plan may take away is
/// to be shown here: else a real that nobody is sure about would lose its weight. `busy` are those that
/// still have connections. `grace` is in seconds; 0 turns draining off.
pub fn drain<'a>(
    have: impl IntoIterator<Item = &'a Item>,
    want: &State,
    busy: &Sorted<RealKey>,
    drains: &Drains,
    now: u64,
    grace: u64,
) -> (State, Drains) {
    let known: Few<RealKey, u64> =
        drains.0.iter().map(|d| ((d.of, d.addr, d.port), d.until)).collect();
    let (mut draining, mut record) = (Vec::new(), Vec::new());
    let marked = marked(want);
    for item in have {
        let Item::Real { of, addr, port, forward, .. } = *item else { continue };
        let key = (of, addr, port);
        let goes = lasts(of, &marked) && has_service(want, of) && !has_real(want, key);
        if grace == 0 || !goes || !busy.contains(&key) {
            continue;
        }
        // A time further off than that is of another boot, or of a longer grace.
        let latest = now.saturating_add(grace);
        let until = known.get(&key).map_or(latest, |until| latest.min(*until));
        // Kept when its time is over too: were the removal refused, it would start anew.
        record.push(Drain { of, addr, port, until });
        if now < until {
            draining.push(Item::Real { of, addr, port, weight: 0, forward });
        }
    }
    (draining.into(), Drains(record))
}

/// What the packets are sent to that get a mark.
fn marked(state: &State) -> Few<u32, Virtual> {
    let marked = |item: &Item| match *item {
        Item::Element { set: Set::Outside, value: Value::Marked { at, mark } } => Some((mark, at)),
        _ => None,
    };
    state.iter().filter_map(marked).collect()
}

/// Whether its connections are worth waiting for. A mark that nobody knows may be TCP's.
fn lasts(of: At, marked: &Few<u32, Virtual>) -> bool {
    let at = match of {
        At::Virtual(at) => Some(at),
        At::Mark { mark, .. } => marked.get(&mark).copied(),
    };
    at.is_none_or(|at| at.protocol == Protocol::Tcp)
}

fn has_service(state: &State, at: At) -> bool {
    holds(state, &Item::Service { at, scheduler: "".into(), flags: 0, persistence: 0 })
}

/// Whether a state has a real server.
pub fn has_real(state: &State, (of, addr, port): RealKey) -> bool {
    holds(state, &Item::Real { of, addr, port, weight: 0, forward: Forward::Masq })
}

/// Whether an item of the same key is there; `least` is the first in order that could be.
fn holds(state: &State, least: &Item) -> bool {
    state.tail(least).first().is_some_and(|item| item.key() == least.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::our_mark;

    /// What drains goes into `want`.
    fn drained<'a>(
        have: impl IntoIterator<Item = &'a Item>,
        want: &mut State,
        busy: &Sorted<RealKey>,
        drains: &Drains,
        now: u64,
        grace: u64,
    ) -> Drains {
        let (draining, drains) = drain(have, want, busy, drains, now, grace);
        want.extend(draining);
        drains
    }

    const NOW: u64 = 1000;
    const GRACE: u64 = 60;

    fn at(protocol: Protocol) -> At {
        Virtual { addr: [10, 96, 0, 10].into(), protocol, port: 80 }.into()
    }

    fn service(protocol: Protocol) -> Item {
        Item::Service { at: at(protocol), scheduler: "rr".into(), flags: 8, persistence: 600 }
    }

    fn real(protocol: Protocol, last: u8, weight: u32, forward: Forward) -> Item {
        let addr = [10, 244, 1, last].into();
        Item::Real { of: at(protocol), addr, port: 8080, weight, forward }
    }

    fn tcp(last: u8, weight: u32) -> Item {
        real(Protocol::Tcp, last, weight, Forward::Masq)
    }

    fn record(times: &[(u8, u64)]) -> Drains {
        let of = at(Protocol::Tcp);
        let drain =
            |&(last, until)| Drain { of, addr: [10, 244, 1, last].into(), port: 8080, until };
        Drains(times.iter().map(drain).collect())
    }

    /// Every real of `have` but those at 10.244.1.100 and above is busy.
    fn busy(have: &[Item]) -> Sorted<RealKey> {
        let key = |item: &Item| match *item {
            Item::Real { of, addr, port, .. } => Some((of, addr, port)),
            _ => None,
        };
        let quiet = |addr| matches!(addr, IpAddr::V4(a) if a.octets()[3] >= 100);
        have.iter().filter_map(key).filter(|(_, addr, _)| !quiet(*addr)).collect()
    }

    #[test]
    fn a_real_that_should_go_drains_until_its_connections_or_its_time_end() {
        struct Case {
            name: &'static str,
            have: Vec<Item>,
            want: Vec<Item>,
            before: Drains,
            /// The reals that are wanted in the end, and the record.
            reals: Vec<Item>,
            after: Drains,
        }
        let none = || record(&[]);
        let local = |weight| real(Protocol::Tcp, 1, weight, Forward::Local);
        #[rustfmt::skip]
        let cases = [
            Case { name: "first seen", have: vec![tcp(1, 1)], want: vec![], before: none(),
                reals: vec![tcp(1, 0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "a recorded one keeps its time", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, NOW + 7)]), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + 7)]) },
            Case { name: "its last second", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, NOW + 1)]), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + 1)]) },
            Case { name: "time over, and known as such while it is there", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, NOW)]), reals: vec![], after: record(&[(1, NOW)]) },
            Case { name: "time long over", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, 3)]), reals: vec![], after: record(&[(1, 3)]) },
            Case { name: "a time of another boot is cut", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, 900_000)]), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "a time beyond all numbers too", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, u64::MAX)]), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "a lost record is the full time again", have: vec![tcp(1, 0)], want: vec![],
                before: Drains::read("\0\0"), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "without connections at once, when new", have: vec![tcp(100, 1)], want: vec![],
                before: none(), reals: vec![], after: none() },
            Case { name: "without connections at once, when draining", have: vec![tcp(100, 0)], want: vec![],
                before: record(&[(100, NOW + 7)]), reals: vec![], after: none() },
            Case { name: "back again", have: vec![tcp(1, 0)], want: vec![tcp(1, 1)],
                before: record(&[(1, NOW + 7)]), reals: vec![tcp(1, 1)], after: none() },
            Case { name: "wanted with other fields", have: vec![tcp(1, 1)],
                want: vec![real(Protocol::Tcp, 1, 3, Forward::Tunnel)], before: none(),
                reals: vec![real(Protocol::Tcp, 1, 3, Forward::Tunnel)], after: none() },
            Case { name: "a record of nothing that is there", have: vec![], want: vec![],
                before: record(&[(1, NOW + 7)]), reals: vec![], after: none() },
            Case { name: "its other fields are kept", have: vec![local(1)], want: vec![], before: none(),
                reals: vec![local(0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "each for itself", have: vec![tcp(1, 0), tcp(2, 1), tcp(3, 1), tcp(4, 0), tcp(100, 0)],
                want: vec![tcp(3, 1), tcp(5, 1)], before: record(&[(1, NOW + 7), (4, NOW)]),
                reals: vec![tcp(1, 0), tcp(2, 0), tcp(3, 1), tcp(5, 1)],
                after: record(&[(1, NOW + 7), (2, NOW + GRACE), (4, NOW)]) },
            Case { name: "UDP at once", have: vec![real(Protocol::Udp, 1, 1, Forward::Masq)], want: vec![],
                before: none(), reals: vec![], after: none() },
            Case { name: "SCTP at once", have: vec![real(Protocol::Sctp, 1, 1, Forward::Masq)], want: vec![],
                before: none(), reals: vec![], after: none() },
        ];
        for case in cases {
            let mut want = State::from(Protocol::ALL.map(service));
            want.extend(case.want);
            let have: State = case.have.iter().cloned().collect();
            let after = drained(&have, &mut want, &busy(&case.have), &case.before, NOW, GRACE);
            let reals: Vec<_> =
                want.into_iter().filter(|i| matches!(i, Item::Real { .. })).collect();
            assert_eq!((reals, after), (case.reals, case.after), "{}", case.name);
        }
    }

    #[test]
    fn behind_a_mark_the_protocol_is_that_of_the_place_that_gets_it() {
        for (protocol, drains) in
            [(Some(Protocol::Tcp), true), (Some(Protocol::Udp), false), (None, true)]
        {
            let of = At::Mark { mark: our_mark(1), ipv4: true };
            let (addr, forward) = ([10, 244, 1, 1].into(), Forward::Masq);
            let real = |weight| Item::Real { of, addr, port: 8080, weight, forward };
            let (scheduler, flags, persistence) = ("rr".into(), 0, 0);
            let mut want = State::from([Item::Service { at: of, scheduler, flags, persistence }]);
            want.extend(protocol.map(|protocol| {
                let at = Virtual { addr: [192, 0, 2, 11].into(), protocol, port: 30080 };
                let value = Value::Marked { at, mark: our_mark(1) };
                Item::Element { set: Set::Outside, value }
            }));
            let before = want.clone();
            drained(&[real(1)], &mut want, &busy(&[real(1)]), &record(&[]), NOW, GRACE);
            let fresh = want.iter().filter(|item| !before.contains(*item));
            let draining: Vec<_> = fresh.cloned().collect();
            assert_eq!(draining, if drains { vec![real(0)] } else { vec![] }, "{protocol:?}");
        }
    }

    #[test]
    fn a_real_goes_with_its_service() {
        let have = State::from([service(Protocol::Tcp), tcp(1, 0)]);
        let mut want = State::from([service(Protocol::Udp)]);
        let before = record(&[(1, NOW + 7)]);
        let after = drained(&have, &mut want, &busy(&[tcp(1, 0)]), &before, NOW, GRACE);
        assert_eq!((want, after), (State::from([service(Protocol::Udp)]), record(&[])));
    }

    #[test]
    fn without_a_grace_period_nothing_drains() {
        let have = State::from([tcp(1, 1)]);
        let mut want = State::from([service(Protocol::Tcp)]);
        let before = record(&[(1, NOW + 7)]);
        let after = drained(&have, &mut want, &busy(&[tcp(1, 1)]), &before, NOW, 0);
        assert_eq!((want.len(), after), (1, record(&[])));
    }

    #[test]
    fn what_the_plan_may_not_take_away_keeps_its_weight() {
        let have = State::from([tcp(1, 1)]);
        let mut want = State::from([service(Protocol::Tcp)]);
        let sure = have.iter().filter(|_| false);
        drained(sure, &mut want, &busy(&[tcp(1, 1)]), &record(&[]), NOW, GRACE);
        assert_eq!(want.len(), 1);
    }

    #[test]
    fn the_record_survives_its_file_and_a_broken_file_is_an_empty_record() {
        let of = Virtual { addr: "fd96::10".parse().unwrap(), protocol: Protocol::Tcp, port: 443 };
        let of = At::from(of);
        let addr = "fd44:1::9".parse().unwrap();
        let drains = Drains(vec![Drain { of, addr, port: 8443, until: 71 }]);
        let text = r#"[{"of":{"addr":"fd96::10","protocol":"tcp","port":443},"addr":"fd44:1::9","port":8443,"until":71}]"#;
        assert_eq!(drains.text(), text);
        assert_eq!(Drains::read(text), drains);
        let newer = text.replace("\"until\"", "\"why\":\"gone\",\"until\"");
        assert_eq!(Drains::read(&newer), drains);
        for broken in ["", "null", "{}", "[{}]", "[1]", "\u{feff}[]", &text[..text.len() - 1]] {
            assert_eq!(Drains::read(broken), Drains::default(), "{broken}");
        }
    }
}
