//! Makes steps happen: runs of the same kind travel in one batch, each with its own verdict.

use std::{fmt::Display, net::IpAddr, time::Duration};

use ipnet::IpNet;
use neli::consts::socket::NlFamily;

use super::{
    Kernel, files, ipvs,
    message::{Request, Verdict},
    netlink, nft, route,
};
use crate::{
    plan::Step,
    ruleset::Set,
    state::{Item, TABLE_MAIN, Value},
};

/// What became of a step: done, or the reason why not.
pub type Outcome = Result<(), String>;

/// Who hears of each step what became of it.
pub type Done<'a> = &'a mut dyn FnMut(&Step<'_>, &Outcome);

/// Requests of this many sets of elements go into one transaction; the limit is the send buffer.
const TRANSACTION: usize = 4;

/// No more than three seconds are spent on the kernel's own routes to new IPv6 addresses, and it is
/// over when none has come for so many tries.
const OWN_ROUTE_TRIES: usize = 150;
const OWN_ROUTE_QUIET: usize = 12;
const OWN_ROUTE_PAUSE: Duration = Duration::from_millis(20);

/// Steps that one socket takes in one go.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Module,
    Link,
    File,
    Table,
    Elements(bool, Set, bool),
    Accept,
    Ipvs,
    Route,
}

fn way(step: &Step) -> Way {
    match step.item() {
        Item::Module { .. } => Way::Module,
        Item::Link { .. } => Way::Link,
        Item::Sysctl { .. } | Item::File { .. } => Way::File,
        Item::Table { .. } => Way::Table,
        Item::Element { set, value } => {
            Way::Elements(!matches!(step, Step::Remove(_)), *set, value.is_ipv4())
        }
        Item::Accept { .. } => Way::Accept,
        Item::Timeout { .. } | Item::Service { .. } | Item::Real { .. } => Way::Ipvs,
        Item::Hairpin { .. } | Item::Addr { .. } | Item::Route { .. } => Way::Route,
    }
}

/// How many steps are taken before somebody hears of them: what became of fifty thousand real servers
/// would be 1.2 MB.
fn most(run: &[Step]) -> usize {
    if way(&run[0]) == Way::Ipvs { netlink::BATCH } else { run.len() }
}

impl Kernel {
    /// Takes the steps in their order and says of each what became of it. One that is refused does
    /// not stop the others.
    pub fn apply(&mut self, steps: &[Step], done: Done<'_>) {
        let runs = steps.chunk_by(|a, b| way(a) == way(b));
        for run in runs.flat_map(|run| run.chunks(most(run))) {
            let outcomes = match way(&run[0]) {
                Way::Module => run.iter().map(|step| self.module(step)).collect(),
                Way::Link => run.iter().map(|step| self.link(step)).collect(),
                Way::File => run.iter().map(file).collect(),
                Way::Table => run.iter().map(|step| self.table(step)).collect(),
                Way::Elements(add, set, ipv4) => self.elements(run, add, set, ipv4),
                Way::Accept => run.iter().map(|step| self.accept(step)).collect(),
                Way::Ipvs => self.ipvs(run),
                Way::Route => self.route(run),
            };
            for (step, outcome) in run.iter().zip(&outcomes) {
                done(step, outcome);
            }
        }
    }

    fn module(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Add(Item::Module { name }) => self.modules.load(name).map_err(text),
            _ => Err("modules are not unloaded".into()),
        }
    }

    fn link(&mut self, step: &Step) -> Outcome {
        let Item::Link { name, kind, mtu } = step.item() else { return Ok(()) };
        if let Step::Remove(_) = step {
            let index = self.links.remove(name).ok_or("its link is not there")?;
            return self.send_route(&[route::remove_link(index)])?.remove(0).map_err(text);
        }
        let links = self.links().map_err(text)?;
        if let Some(there) = links.iter().find(|l| *l.name == **name)
            && there.kind != kind.as_str()
        {
            let is = if there.kind.is_empty() { "another device" } else { there.kind.as_str() };
            return Err(format!("a link of this name is there and is {is}: rename or remove it"));
        }
        self.send_route(&[route::put_link(name, kind, *mtu)])?.remove(0).map_err(text)?;
        self.links().map_err(text).map(|_| ())
    }

    fn send_route(&mut self, requests: &[Request]) -> Result<Vec<Verdict>, String> {
        self.route.send(requests).map_err(text)
    }

    fn route(&mut self, run: &[Step]) -> Vec<Outcome> {
        let index = |name: &str| self.links.get(name).copied();
        let request = |step: &Step| match step {
            Step::Add(item @ Item::Route { .. }) => route::add_route(item, index),
            Step::Change(item @ Item::Route { .. }) => route::change_route(item, index),
            Step::Add(Item::Hairpin { port }) => Some(vec![route::hairpin(index(port)?)]),
            Step::Remove(item @ Item::Route { .. }) => route::remove_route(item, index),
            Step::Remove(Item::Addr { link, addr }) => {
                Some(vec![route::remove_address(*addr, index(link)?)])
            }
            Step::Add(Item::Addr { link, addr }) | Step::Change(Item::Addr { link, addr }) => {
                Some(vec![route::add_address(*addr, index(link)?)])
            }
            _ => None,
        };
        let outcomes = attributed(run, request, "its link is not there", |r| self.route.send(r));
        self.give_way(run);
        self.addrs.extend(run.iter().filter_map(|step| match step.item() {
            Item::Addr { addr: IpNet::V6(addr), .. } => Some(IpAddr::V6(addr.addr())),
            _ => None,
        }));
        run.iter()
            .zip(outcomes)
            .map(|(step, outcome)| outcome.map_err(|e| stranger(step, e)))
            .collect()
    }

    /// Takes the kernel's own IPv6 routes to the virtual addresses of a run away. To a new address it
    /// makes one with it, and once more from a work queue (`addrconf_dad_completed`): it is over when
    /// none has come for a while.
    fn give_way(&mut self, run: &[Step]) {
        let index = |name: &str| self.links.get(name).copied();
        let made = run.iter().filter(|step| !matches!(step, Step::Remove(_)));
        let own = made.filter_map(|step| route::give_way(step.item(), index));
        let requests: Vec<Request> = own.collect();
        let fresh = |step: &Step| matches!(step, Step::Add(Item::Addr { addr, .. }) if addr.addr().is_ipv6());
        let (any_fresh, mut quiet) = (run.iter().any(fresh), 0);
        for _ in 0..OWN_ROUTE_TRIES {
            let Ok(verdicts) = self.route.send(&requests) else { return };
            quiet = if verdicts.iter().any(Result::is_ok) { 0 } else { quiet + 1 };
            if quiet > OWN_ROUTE_QUIET || requests.is_empty() || !any_fresh {
                return;
            }
            std::thread::sleep(OWN_ROUTE_PAUSE);
        }
    }

    fn ipvs(&mut self, run: &[Step]) -> Vec<Outcome> {
        let family = match self.ipvs_family() {
            Ok(family) => family,
            Err(e) => return vec![Err(e.to_string()); run.len()],
        };
        let request = |step: &Step| {
            Some(vec![match step {
                Step::Add(Item::Timeout { of, seconds })
                | Step::Change(Item::Timeout { of, seconds }) => {
                    ipvs::set_timeout(family, *of, *seconds)
                }
                Step::Add(item @ Item::Service { .. }) => ipvs::add_service(family, item)?,
                Step::Change(item @ Item::Service { .. }) => ipvs::change_service(family, item)?,
                Step::Remove(Item::Service { at, .. }) => ipvs::remove_service(family, at),
                Step::Add(item) => ipvs::add_real(family, item)?,
                Step::Change(item) => ipvs::change_real(family, item)?,
                Step::Remove(item) => ipvs::remove_real(family, item)?,
            }])
        };
        let generic = match self.generic() {
            Ok(generic) => generic,
            Err(e) => return vec![Err(e.to_string()); run.len()],
        };
        attributed(run, request, "IPVS has no word for it", |r| generic.send(r))
    }

    fn transact(&mut self, requests: &[Request]) -> Outcome {
        let conn = netlink::opened(&mut self.netfilter, NlFamily::Netfilter).map_err(text)?;
        conn.transact(&nft::begin(), requests, &nft::end()).map_err(text)?.map_err(text)
    }

    fn table(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Add(Item::Table { skeleton: Some(skeleton), .. })
            | Step::Change(Item::Table { skeleton: Some(skeleton), .. }) => {
                let mut requests = vec![nft::add_table()];
                if self.chains.is_none() {
                    requests.extend([nft::remove_table(), nft::add_table()]);
                    requests.extend(nft::add_sets());
                }
                let there = self.chains.as_deref().unwrap_or_default();
                requests.extend(nft::put_chains(*skeleton, there));
                self.transact(&requests)
            }
            Step::Remove(_) => {
                self.chains = None;
                self.transact(&[nft::remove_table()])
            }
            _ => Err("a table without rules is not made".into()),
        }
    }

    fn accept(&mut self, step: &Step) -> Outcome {
        let Item::Accept { chain } = step.item() else { return Ok(()) };
        if let Step::Remove(_) = step {
            let handles = self.accepts(chain).map_err(text)?;
            let remove = |handle| nft::accept::remove(chain, handle);
            return self.transact(&handles.into_iter().map(remove).collect::<Vec<_>>());
        }
        self.transact(&[nft::accept::insert(chain)])
    }

    fn elements(&mut self, run: &[Step], add: bool, set: Set, ipv4: bool) -> Vec<Outcome> {
        let put = if add { nft::add_elements } else { nft::remove_elements };
        let values: Vec<Value> = run
            .iter()
            .filter_map(|s| {
                if let Item::Element { value, .. } = s.item() { Some(*value) } else { None }
            })
            .collect();
        let mut outcomes = Vec::with_capacity(run.len());
        for part in values.chunks(nft::ELEMENTS * TRANSACTION) {
            let requests: Vec<_> =
                part.chunks(nft::ELEMENTS).map(|values| put(set, ipv4, values)).collect();
            match self.transact(&requests) {
                // One that is refused takes all with it: which one?
                Err(_) if part.len() > 1 => outcomes.extend(
                    part.iter().map(|v| self.transact(&[put(set, ipv4, std::slice::from_ref(v))])),
                ),
                outcome => outcomes.extend(part.iter().map(|_| outcome.clone())),
            }
        }
        outcomes
    }
}

fn file(step: &Step) -> Outcome {
    match step {
        Step::Add(Item::Sysctl { name, value }) | Step::Change(Item::Sysctl { name, value }) => {
            files::set_sysctl(&name.0, value).map_err(text)
        }
        Step::Add(Item::File { path, text: t }) | Step::Change(Item::File { path, text: t }) => {
            files::write(path, t).map_err(text)
        }
        _ => Err("settings and files are not removed".into()),
    }
}

/// Puts steps into requests, sends them batch by batch, and brings each verdict to its step.
fn attributed(
    run: &[Step],
    request: impl Fn(&Step) -> Option<Vec<Request>>,
    wordless: &str,
    mut send: impl FnMut(&[Request]) -> std::io::Result<Vec<Verdict>>,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(run.len());
    for batch in run.chunks(netlink::BATCH) {
        let mut requests = Vec::with_capacity(batch.len());
        let mut append = |step: &Step| {
            let of_step = request(step)?;
            let count = of_step.len();
            requests.extend(of_step);
            Some(count)
        };
        let counts: Vec<Option<usize>> = batch.iter().map(&mut append).collect();
        match send(&requests) {
            Err(e) => outcomes.extend(batch.iter().map(|_| Err(e.to_string()))),
            Ok(verdicts) => {
                let mut verdicts = verdicts.into_iter();
                outcomes.extend(counts.into_iter().map(|count| match count {
                    None => Err(wordless.to_owned()),
                    Some(n) => {
                        let mine: Vec<Verdict> = verdicts.by_ref().take(n).collect();
                        mine.into_iter().collect::<Verdict>().map_err(text)
                    }
                }));
            }
        }
    }
    outcomes
}

/// A pod route is never put in the place of a stranger's.
fn stranger(step: &Step, cause: String) -> String {
    let exists = std::io::Error::from_raw_os_error(libc::EEXIST).to_string();
    match step {
        Step::Add(Item::Route { table: TABLE_MAIN, to, .. }) if cause.starts_with(&exists) => {
            format!(
                "a route to {to} is there that kinglet did not make (`ip route show {to}`): \
                 remove it, and kinglet makes its own"
            )
        }
        _ => cause,
    }
}

fn text(cause: impl Display) -> String {
    cause.to_string()
}
