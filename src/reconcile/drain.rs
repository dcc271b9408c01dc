//! Graceful removal of TCP real servers: [`drain`] adds them to the desired state at weight 0. Only
//! here does the desired state depend on the observed state.
//!
//! A real server that is no longer desired stays at weight 0 until it has no connections left or
//! its grace period is over; then it is not desired any more, and the plan removes it. The end of
//! the grace period must outlive the process, because cron mode keeps nothing in memory. So
//! [`Drains`] is a record that goes in and comes out; reading and writing its file is left to the
//! caller. Time is passed in, as seconds since boot (/proc/uptime, suspend included). UDP and SCTP
//! real servers are removed at once, as in kube-proxy.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    codec::json,
    collections::{FlatMap, FlatSet},
    model::{
        items::{Forward, Item, ItemSet, Protocol, RealKey, ServiceAddr, ServiceKey, SetElement},
        nftables::Set,
    },
};

/// The real servers that are draining and the time at which each must be removed, sorted by real
/// server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drains(Vec<Drain>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Drain {
    of: ServiceKey,
    addr: IpAddr,
    port: u16,
    /// The end of its grace period, in seconds since boot.
    until: u64,
}

impl Drains {
    /// Parses the text that [`Drains::text`] returned. A text that can't be parsed becomes an empty
    /// record: each draining real server then gets its full grace period again.
    pub fn read(text: &str) -> Drains {
        json::from_str(text).unwrap_or_default()
    }

    /// Returns true if no real server is draining.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the virtual service of each draining real server.
    pub fn services(&self) -> impl Iterator<Item = ServiceKey> {
        self.0.iter().map(|drain| drain.of)
    }

    /// Splits the record into the real servers of some services and those of all others.
    pub fn split(self, services: &FlatSet<ServiceKey>) -> (Drains, Drains) {
        let (of, others) = self.0.into_iter().partition(|drain| services.contains(&drain.of));
        (Drains(of), Drains(others))
    }

    /// Merges the record with that of other services.
    pub fn with(mut self, mut others: Drains) -> Drains {
        self.0.append(&mut others.0);
        self.0.sort_by_key(|drain| (drain.of, drain.addr, drain.port));
        self
    }

    /// Deletes the entries of real servers that were removed.
    pub fn forget(&mut self, gone: &FlatSet<RealKey>) {
        self.0.retain(|drain| !gone.contains(&(drain.of, drain.addr, drain.port)));
    }

    /// Returns the draining real servers as IPVS holds them: at weight 0, with masquerading.
    pub fn reals(&self) -> impl Iterator<Item = Item> {
        let real = |d: &Drain| {
            let (weight, forward) = (0, Forward::Masq);
            Item::Real { of: d.of, addr: d.addr, port: d.port, weight, forward }
        };
        self.0.iter().map(real)
    }

    /// Returns the record as one line of JSON.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Returns the real servers that are still draining, as desired items, and the new record.
///
/// `have` holds the observed real servers that differ from the desired state, restricted to those
/// that the plan may remove. Otherwise a real server of an incompletely known Service would lose
/// its weight. `busy` holds the real servers that still have connections. `now` is in seconds since
/// boot. `grace` is in seconds; 0 disables draining.
pub(crate) fn drain<'a>(
    have: impl IntoIterator<Item = &'a Item>,
    want: &ItemSet,
    busy: &FlatSet<RealKey>,
    drains: &Drains,
    now: u64,
    grace: u64,
) -> (ItemSet, Drains) {
    let recorded: FlatMap<RealKey, u64> =
        drains.0.iter().map(|d| ((d.of, d.addr, d.port), d.until)).collect();
    let (mut draining, mut record) = (Vec::new(), Vec::new());
    let marked = marked_addrs(want);
    for item in have {
        let Item::Real { of, addr, port, forward, .. } = *item else { continue };
        let key = (of, addr, port);
        let leaves = is_tcp(of, &marked) && has_service(want, of) && !has_real(want, key);
        if grace == 0 || !leaves || !busy.contains(&key) {
            continue;
        }
        // A later time is from another boot, or from a longer grace period.
        let latest = now.saturating_add(grace);
        let until = recorded.get(&key).map_or(latest, |until| latest.min(*until));
        // The entry is kept even if its time is over: if the removal is refused, the period must
        // not start again.
        record.push(Drain { of, addr, port, until });
        if now < until {
            draining.push(Item::Real { of, addr, port, weight: 0, forward });
        }
    }
    (draining.into(), Drains(record))
}

/// Returns the destination of the packets that get each mark.
fn marked_addrs(state: &ItemSet) -> FlatMap<u32, ServiceAddr> {
    let marked = |item: &Item| {
        let Item::Element { set: Set::Outside, value: SetElement::Marked { at, mark } } = *item
        else {
            return None;
        };
        Some((mark, at))
    };
    state.iter().filter_map(marked).collect()
}

/// Returns true if a service is TCP, so that its connections are worth waiting for. A mark that is
/// not in `marked` may be TCP's.
fn is_tcp(of: ServiceKey, marked: &FlatMap<u32, ServiceAddr>) -> bool {
    let at = match of {
        ServiceKey::Address(at) => Some(at),
        ServiceKey::FwMark { mark, .. } => marked.get(&mark).copied(),
    };
    at.is_none_or(|at| at.protocol == Protocol::Tcp)
}

fn has_service(state: &ItemSet, at: ServiceKey) -> bool {
    has_key(state, &Item::Service { at, scheduler: "".into(), flags: 0, persistence: 0 })
}

/// Returns true if a state has a real server of this key.
pub(crate) fn has_real(state: &ItemSet, (of, addr, port): RealKey) -> bool {
    has_key(state, &Item::Real { of, addr, port, weight: 0, forward: Forward::Masq })
}

/// Returns true if a state has an item with the key of `least`, which must be the first item in
/// order of that key.
fn has_key(state: &ItemSet, least: &Item) -> bool {
    state.tail(least).first().is_some_and(|item| item.key() == least.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::items::our_mark;

    /// Runs [`drain`] and adds the draining real servers to `want`.
    fn drained<'a>(
        have: impl IntoIterator<Item = &'a Item>,
        want: &mut ItemSet,
        busy: &FlatSet<RealKey>,
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

    fn at(protocol: Protocol) -> ServiceKey {
        ServiceAddr { addr: [10, 96, 0, 10].into(), protocol, port: 80 }.into()
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

    /// Returns the keys of the real servers in `have`, except those from 10.244.1.100 upwards,
    /// which have no connections.
    fn busy(have: &[Item]) -> FlatSet<RealKey> {
        let key = |item: &Item| match *item {
            Item::Real { of, addr, port, .. } => Some((of, addr, port)),
            _ => None,
        };
        let quiet = |addr| matches!(addr, IpAddr::V4(a) if a.octets()[3] >= 100);
        have.iter().filter_map(key).filter(|(_, addr, _)| !quiet(*addr)).collect()
    }

    #[test]
    fn a_removed_real_server_drains_until_its_connections_or_its_grace_period_end() {
        struct Case {
            name: &'static str,
            have: Vec<Item>,
            want: Vec<Item>,
            before: Drains,
            /// The desired real servers and the record afterwards.
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
            Case { name: "in the last second of its period", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, NOW + 1)]), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + 1)]) },
            Case { name: "period over: removed, and recorded while it is there", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, NOW)]), reals: vec![], after: record(&[(1, NOW)]) },
            Case { name: "period long over", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, 3)]), reals: vec![], after: record(&[(1, 3)]) },
            Case { name: "a time of another boot is cut to the grace period", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, 900_000)]), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "the largest time is cut too", have: vec![tcp(1, 0)], want: vec![],
                before: record(&[(1, u64::MAX)]), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "a lost record restarts the full period", have: vec![tcp(1, 0)], want: vec![],
                before: Drains::read("\0\0"), reals: vec![tcp(1, 0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "without connections: removed at once when new", have: vec![tcp(100, 1)], want: vec![],
                before: none(), reals: vec![], after: none() },
            Case { name: "without connections: removed at once when draining", have: vec![tcp(100, 0)], want: vec![],
                before: record(&[(100, NOW + 7)]), reals: vec![], after: none() },
            Case { name: "desired again", have: vec![tcp(1, 0)], want: vec![tcp(1, 1)],
                before: record(&[(1, NOW + 7)]), reals: vec![tcp(1, 1)], after: none() },
            Case { name: "desired with other fields", have: vec![tcp(1, 1)],
                want: vec![real(Protocol::Tcp, 1, 3, Forward::Tunnel)], before: none(),
                reals: vec![real(Protocol::Tcp, 1, 3, Forward::Tunnel)], after: none() },
            Case { name: "a record of a real server that is gone", have: vec![], want: vec![],
                before: record(&[(1, NOW + 7)]), reals: vec![], after: none() },
            Case { name: "its other fields are kept", have: vec![local(1)], want: vec![], before: none(),
                reals: vec![local(0)], after: record(&[(1, NOW + GRACE)]) },
            Case { name: "several at once, each with its own period", have: vec![tcp(1, 0), tcp(2, 1), tcp(3, 1), tcp(4, 0), tcp(100, 0)],
                want: vec![tcp(3, 1), tcp(5, 1)], before: record(&[(1, NOW + 7), (4, NOW)]),
                reals: vec![tcp(1, 0), tcp(2, 0), tcp(3, 1), tcp(5, 1)],
                after: record(&[(1, NOW + 7), (2, NOW + GRACE), (4, NOW)]) },
            Case { name: "UDP is removed at once", have: vec![real(Protocol::Udp, 1, 1, Forward::Masq)], want: vec![],
                before: none(), reals: vec![], after: none() },
            Case { name: "SCTP is removed at once", have: vec![real(Protocol::Sctp, 1, 1, Forward::Masq)], want: vec![],
                before: none(), reals: vec![], after: none() },
        ];
        for case in cases {
            let mut want = ItemSet::from(Protocol::ALL.map(service));
            want.extend(case.want);
            let have: ItemSet = case.have.iter().cloned().collect();
            let after = drained(&have, &mut want, &busy(&case.have), &case.before, NOW, GRACE);
            let reals: Vec<_> =
                want.into_iter().filter(|i| matches!(i, Item::Real { .. })).collect();
            assert_eq!((reals, after), (case.reals, case.after), "{}", case.name);
        }
    }

    #[test]
    fn a_real_server_of_a_marked_service_drains_if_the_marked_packets_are_tcp() {
        for (protocol, drains) in
            [(Some(Protocol::Tcp), true), (Some(Protocol::Udp), false), (None, true)]
        {
            let of = ServiceKey::FwMark { mark: our_mark(1), ipv4: true };
            let (addr, forward) = ([10, 244, 1, 1].into(), Forward::Masq);
            let real = |weight| Item::Real { of, addr, port: 8080, weight, forward };
            let (scheduler, flags, persistence) = ("rr".into(), 0, 0);
            let mut want = ItemSet::from([Item::Service { at: of, scheduler, flags, persistence }]);
            want.extend(protocol.map(|protocol| {
                let at = ServiceAddr { addr: [192, 0, 2, 11].into(), protocol, port: 30080 };
                let value = SetElement::Marked { at, mark: our_mark(1) };
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
    fn a_real_server_is_removed_together_with_its_service() {
        let have = ItemSet::from([service(Protocol::Tcp), tcp(1, 0)]);
        let mut want = ItemSet::from([service(Protocol::Udp)]);
        let before = record(&[(1, NOW + 7)]);
        let after = drained(&have, &mut want, &busy(&[tcp(1, 0)]), &before, NOW, GRACE);
        assert_eq!((want, after), (ItemSet::from([service(Protocol::Udp)]), record(&[])));
    }

    #[test]
    fn a_grace_period_of_zero_disables_draining() {
        let have = ItemSet::from([tcp(1, 1)]);
        let mut want = ItemSet::from([service(Protocol::Tcp)]);
        let before = record(&[(1, NOW + 7)]);
        let after = drained(&have, &mut want, &busy(&[tcp(1, 1)]), &before, NOW, 0);
        assert_eq!((want.len(), after), (1, record(&[])));
    }

    #[test]
    fn a_real_server_that_the_plan_may_not_remove_keeps_its_weight() {
        let have = ItemSet::from([tcp(1, 1)]);
        let mut want = ItemSet::from([service(Protocol::Tcp)]);
        let removable = have.iter().filter(|_| false);
        drained(removable, &mut want, &busy(&[tcp(1, 1)]), &record(&[]), NOW, GRACE);
        assert_eq!(want.len(), 1);
    }

    #[test]
    fn the_record_survives_a_json_round_trip_and_an_invalid_file_is_an_empty_record() {
        let of =
            ServiceAddr { addr: "fd96::10".parse().unwrap(), protocol: Protocol::Tcp, port: 443 };
        let of = ServiceKey::from(of);
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
