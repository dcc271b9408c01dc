//! Applies planned steps to the kernel.
//!
//! [`Kernel::apply`] splits the steps into runs for the same [`Backend`]. Each run is sent in few
//! batches: `apply_route` and `apply_ipvs` with one result per request (`send_steps`), `apply_table`
//! and `apply_elements` as nftables transactions (`transact`). A refused step does not stop the steps
//! after it. The order of the steps comes from `plan`; the messages are built by `route`, `ipvs` and
//! `nft`.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use neli::consts::socket::NlFamily;

use super::{Kernel, files, ipvs, nft, route};
use crate::{
    family::Family,
    model::{
        items::{Backend, Item, SetElement, TABLE_MAIN},
        nftables::Set,
    },
    netlink::{
        message::{Outcome, Refusal, Request},
        socket,
    },
    plan::Step,
    sys,
};

/// A callback that receives each step with its result.
pub type OnStep<'a> = &'a mut dyn FnMut(&Step<'_>, &Outcome);

/// The number of element requests in one transaction. More would not fit into the send buffer.
const TRANSACTION: usize = 4;

/// The number of attempts to delete the kernel's own routes to new IPv6 addresses: 3 seconds at most,
/// with [`KERNEL_ROUTE_PAUSE`].
const KERNEL_ROUTE_ATTEMPTS: usize = 150;
/// The attempts end when this many in a row found no route.
const KERNEL_ROUTE_QUIET_ATTEMPTS: usize = 12;
/// The time between two attempts.
const KERNEL_ROUTE_PAUSE: Duration = Duration::from_millis(20);

/// The reason for the failure of a step whose link is in no dump.
const NO_LINK: &str = "its link does not exist";

/// The elements that one request can hold: true if they are added, their set, and their family.
type ElementRun = (bool, Set, Family);

/// Returns the interface that applies a step, and for an element the request that it fits into.
/// Consecutive steps with the same result are applied together.
fn run_of(step: &Step) -> (Backend, Option<ElementRun>) {
    let item = step.item();
    let elements = if let Item::Element { set, value } = item {
        Some((!matches!(step, Step::Remove(_)), *set, value.family()))
    } else {
        None
    };
    (item.info().backend, elements)
}

/// Returns how many steps of a run are applied before their results are reported. IPVS steps are
/// reported per batch, because the results of 50,000 real servers would take 1.2 MB.
fn max_part(run: &[Step]) -> usize {
    if run[0].item().info().backend == Backend::Ipvs { socket::BATCH } else { run.len() }
}

impl Kernel {
    /// Applies the steps in order and calls `done` for each step with its result. A step that fails
    /// does not stop the other steps.
    pub fn apply(&mut self, steps: &[Step], done: OnStep<'_>) {
        let runs = steps.chunk_by(|a, b| run_of(a) == run_of(b));
        for run in runs.flat_map(|run| run.chunks(max_part(run))) {
            let (backend, elements) = run_of(&run[0]);
            let outcomes = match backend {
                Backend::Module => run.iter().map(|step| self.apply_module(step)).collect(),
                Backend::Link => run.iter().map(|step| self.apply_link(step)).collect(),
                Backend::File => run.iter().map(write_file).collect(),
                Backend::Table => run.iter().map(|step| self.apply_table(step)).collect(),
                Backend::Elements => elements.map_or(Vec::new(), |of| self.apply_elements(run, of)),
                Backend::Accept => run.iter().map(|step| self.apply_accept(step)).collect(),
                Backend::Ipvs => self.apply_ipvs(run),
                Backend::Route => self.apply_route(run),
            };
            for (step, outcome) in run.iter().zip(&outcomes) {
                done(step, outcome);
            }
        }
    }

    fn apply_module(&mut self, step: &Step) -> Outcome {
        let Step::Add(Item::Module { name }) = step else {
            return Err("kinglet never unloads modules".into());
        };
        Ok(self.modules.load(name)?)
    }

    fn apply_link(&mut self, step: &Step) -> Outcome {
        let Item::Link { name, kind, mtu } = step.item() else { return Ok(()) };
        if let Step::Remove(_) = step {
            let index = self.links.remove(name).ok_or(NO_LINK)?;
            return self.route.send(&[route::remove_link(index)])?.remove(0);
        }
        let links = self.links()?;
        if let Some(existing) = links.iter().find(|l| *l.name == **name)
            && existing.kind != kind.as_str()
        {
            let is =
                if existing.kind.is_empty() { "another device" } else { existing.kind.as_str() };
            let reason =
                format!("a link with this name already exists and is {is}: rename or remove it");
            return Err(Refusal::Other(reason.into()));
        }
        self.route.send(&[route::put_link(name, kind, *mtu)])?.remove(0)?;
        self.links()?;
        Ok(())
    }

    fn apply_route(&mut self, run: &[Step]) -> Vec<Outcome> {
        let index = |name: &str| self.links.get(name).copied();
        let request = |step: &Step| match step.item() {
            item @ Item::Route { .. } => match step {
                Step::Add(_) => route::add_route(item, index),
                Step::Change(_) => route::change_route(item, index),
                Step::Remove(_) => route::remove_route(item, index),
            },
            Item::Hairpin { port } => match step {
                Step::Add(_) => Some(vec![route::set_hairpin(index(port)?)]),
                Step::Change(_) | Step::Remove(_) => None,
            },
            Item::Addr { link, addr } => {
                let index = index(link)?;
                Some(vec![match step {
                    Step::Add(_) | Step::Change(_) => route::add_address(*addr, index),
                    Step::Remove(_) => route::remove_address(*addr, index),
                }])
            }
            // Of other backends.
            Item::Module { .. }
            | Item::Link { .. }
            | Item::Sysctl { .. }
            | Item::Table { .. }
            | Item::Element { .. }
            | Item::Accept { .. }
            | Item::Timeout { .. }
            | Item::Service { .. }
            | Item::Real { .. }
            | Item::File { .. } => None,
        };
        let outcomes = send_steps(run, request, NO_LINK, |r| self.route.send(r));
        self.delete_kernel_routes(run);
        self.echo.borrow_mut().extend(run.iter().filter_map(|step| {
            let Item::Addr { addr: IpNet::V6(addr), .. } = step.item() else { return None };
            Some(IpAddr::V6(addr.addr()))
        }));
        run.iter()
            .zip(outcomes)
            .map(|(step, outcome)| outcome.map_err(|e| explain_existing_route(step, e)))
            .collect()
    }

    /// Deletes the kernel's own IPv6 routes to the virtual addresses of a run. The kernel adds such a
    /// route together with a new address, and adds it again from a work queue
    /// (`addrconf_dad_completed`). Therefore this function repeats the deletion until no route has
    /// appeared for a while.
    fn delete_kernel_routes(&mut self, run: &[Step]) {
        let index = |name: &str| self.links.get(name).copied();
        let made = run.iter().filter(|step| !matches!(step, Step::Remove(_)));
        let delete = made.filter_map(|step| route::delete_kernel_route(step.item(), index));
        let requests: Vec<Request> = delete.collect();
        let fresh = |step: &Step| matches!(step, Step::Add(Item::Addr { addr, .. }) if addr.addr().is_ipv6());
        let (any_fresh, mut quiet) = (run.iter().any(fresh), 0);
        for _ in 0..KERNEL_ROUTE_ATTEMPTS {
            let Ok(outcomes) = self.route.send(&requests) else { return };
            quiet = if outcomes.iter().any(Result::is_ok) { 0 } else { quiet + 1 };
            if quiet > KERNEL_ROUTE_QUIET_ATTEMPTS || requests.is_empty() || !any_fresh {
                return;
            }
            std::thread::sleep(KERNEL_ROUTE_PAUSE);
        }
    }

    fn apply_ipvs(&mut self, run: &[Step]) -> Vec<Outcome> {
        let family = match self.ipvs_family() {
            Ok(family) => family,
            Err(e) => return vec![Err(e.into()); run.len()],
        };
        let request = |step: &Step| {
            Some(vec![match step.item() {
                Item::Timeout { of, seconds } => match step {
                    Step::Add(_) | Step::Change(_) => ipvs::set_timeout(family, *of, *seconds),
                    Step::Remove(_) => return None,
                },
                item @ Item::Service { at, .. } => match step {
                    Step::Add(_) => ipvs::add_service(family, item)?,
                    Step::Change(_) => ipvs::change_service(family, item)?,
                    Step::Remove(_) => ipvs::remove_service(family, at),
                },
                item @ Item::Real { .. } => match step {
                    Step::Add(_) => ipvs::add_real(family, item)?,
                    Step::Change(_) => ipvs::change_real(family, item)?,
                    Step::Remove(_) => ipvs::remove_real(family, item)?,
                },
                // Of other backends.
                Item::Module { .. }
                | Item::Link { .. }
                | Item::Hairpin { .. }
                | Item::Sysctl { .. }
                | Item::Table { .. }
                | Item::Element { .. }
                | Item::Accept { .. }
                | Item::Addr { .. }
                | Item::Route { .. }
                | Item::File { .. } => return None,
            }])
        };
        let generic = match self.generic() {
            Ok(generic) => generic,
            Err(e) => return vec![Err(e.into()); run.len()],
        };
        send_steps(run, request, "IPVS cannot represent this item", |r| generic.send(r))
    }

    /// Sends the requests as one nftables transaction. If one request is refused, none takes effect.
    fn transact(&mut self, requests: &[Request]) -> Outcome {
        let conn = socket::get_or_open(&mut self.netfilter, NlFamily::Netfilter)?;
        conn.transact(&nft::begin(), requests, &nft::end())?
    }

    fn apply_table(&mut self, step: &Step) -> Outcome {
        if let Step::Remove(_) = step {
            self.chains = None;
            return self.transact(&[nft::remove_table()]);
        }
        let Item::Table { skeleton: Some(skeleton), .. } = step.item() else {
            return Err("kinglet cannot create a table without rules".into());
        };
        let mut requests = vec![nft::add_table()];
        if self.chains.is_none() {
            requests.extend([nft::remove_table(), nft::add_table()]);
            requests.extend(nft::add_sets());
        }
        let existing = self.chains.as_deref().unwrap_or_default();
        requests.extend(nft::put_chains(*skeleton, existing));
        self.transact(&requests)
    }

    fn apply_accept(&mut self, step: &Step) -> Outcome {
        let Item::Accept { chain } = step.item() else { return Ok(()) };
        if let Step::Remove(_) = step {
            let handles = self.accept_handles(chain)?;
            let remove = |handle| nft::accept::remove(chain, handle);
            return self.transact(&handles.into_iter().map(remove).collect::<Vec<_>>());
        }
        self.transact(&[nft::accept::insert(chain)])
    }

    fn apply_elements(&mut self, run: &[Step], (add, set, family): ElementRun) -> Vec<Outcome> {
        let put = if add { nft::add_elements } else { nft::remove_elements };
        let values: Vec<SetElement> = run
            .iter()
            .filter_map(|s| {
                if let Item::Element { value, .. } = s.item() { Some(*value) } else { None }
            })
            .collect();
        let mut outcomes = Vec::with_capacity(run.len());
        for part in values.chunks(nft::ELEMENTS * TRANSACTION) {
            let requests: Vec<_> =
                part.chunks(nft::ELEMENTS).map(|values| put(set, family, values)).collect();
            match self.transact(&requests) {
                // One refused element fails the transaction: send each one alone to find it.
                Err(_) if part.len() > 1 => outcomes.extend(
                    part.iter()
                        .map(|v| self.transact(&[put(set, family, std::slice::from_ref(v))])),
                ),
                outcome => outcomes.extend(part.iter().map(|_| outcome.clone())),
            }
        }
        outcomes
    }
}

/// Writes the sysctl or the file of a step.
fn write_file(step: &Step) -> Outcome {
    let (Step::Add(item) | Step::Change(item)) = step else {
        return Err("kinglet never removes sysctls or files".into());
    };
    if let Item::Sysctl { name, value } = item {
        files::set_sysctl(&name.0, value)?;
    } else if let Item::File { path, text } = item {
        files::write(path, text)?;
    }
    Ok(())
}

/// Builds the requests of the steps, sends them in batches and returns one result per step. A step
/// fails if any of its requests is refused, or with `no_request` if `request` is `None` for it.
fn send_steps(
    run: &[Step],
    request: impl Fn(&Step) -> Option<Vec<Request>>,
    no_request: &str,
    mut send: impl FnMut(&[Request]) -> std::io::Result<Vec<Outcome>>,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(run.len());
    for batch in run.chunks(socket::BATCH) {
        let mut requests = Vec::with_capacity(batch.len());
        let mut append = |step: &Step| {
            let of_step = request(step)?;
            let count = of_step.len();
            requests.extend(of_step);
            Some(count)
        };
        let counts: Vec<Option<usize>> = batch.iter().map(&mut append).collect();
        match send(&requests) {
            Err(e) => {
                let outcome = Err(Refusal::from(e));
                outcomes.extend(batch.iter().map(|_| outcome.clone()));
            }
            Ok(of_requests) => {
                let mut of_requests = of_requests.into_iter();
                outcomes.extend(counts.into_iter().map(|count| match count {
                    None => Err(no_request.into()),
                    Some(n) => {
                        let of_step: Vec<Outcome> = of_requests.by_ref().take(n).collect();
                        of_step.into_iter().collect()
                    }
                }));
            }
        }
    }
    outcomes
}

/// Replaces EEXIST for a new pod route with advice: kinglet never replaces another program's route.
fn explain_existing_route(step: &Step, refusal: Refusal) -> Refusal {
    if let (
        Step::Add(Item::Route { table: TABLE_MAIN, to, .. }),
        Some(errno @ sys::errno::EEXIST),
    ) = (step, refusal.errno())
    {
        let reason = format!(
            "a route to {to} that kinglet did not make already exists (`ip route show {to}`): \
             remove it, and kinglet adds its own"
        );
        return Refusal::Explained { errno, reason: reason.into() };
    }
    refusal
}
