//! kinglet makes a small Linux box a full member of a Kubernetes pod network.
//!
//! It reads what the API server has about the cluster, computes the objects that the kernel of this node
//! should hold, reads the objects that it does hold, and applies the difference. This page is the map of
//! the source; the head of each module has the details. The crate is a library so that the binary, the
//! black-box tests and the fuzz tests share it; it is no stable interface.
//!
//! # The flow of the data
//!
//! ```text
//!  API server ───list, watch──▶ api ──▶ ClusterStore ──┐
//!  BGP peers ───────UPDATE────▶ bgp ──▶ Learned ───────┼─▶ desired ──▶ items wanted ─┐
//!  flags, this host ─▶ cli, kernel ──▶ Options, Host ──┘                             ├─▶ plan ──▶ steps
//!  kernel ──netlink, /proc, files──▶ kernel::observe ─────────────▶ items found ─────┘      │
//!     ▲                                                                                     │
//!     └──────────────────────── kernel::apply ◀── reconcile ◀───────────────────────────────┤
//!                                                     standard output (plan, dry run) ◀─────┘
//!
//!  ClusterStore ──▶ announce ──▶ bgp::Config ──▶ bgp ──UPDATE──▶ BGP peers
//!  daemon ──▶ Status ──▶ report ──▶ health probes, metrics, kinglet status
//! ```
//!
//! Five ideas carry the design:
//!
//! 1. **One vocabulary for both sides.** [`model::items`] defines a flat `Item` (a link, an address, a
//!    route, an IPVS service, a set element, a sysctl, a file …). [`desired`] computes one sorted set of
//!    items, [`kernel`] observes another, and [`plan`] compares them. Nothing else compares.
//! 2. **One function for every mode.** A pass of cron, the daemon, the dry run, the clean-up and the tests
//!    are the same reconcile with another source, or without the last step.
//! 3. **Level-triggered and crash-only.** An event means "compare again". A lost event, a full socket
//!    buffer, a restart and a `kill -9` are therefore the same as a first start. Nothing has to be torn
//!    down to stop: the kernel keeps forwarding.
//! 4. **Pure core, thin effects.** Code that decides does no I/O, reads no clock and owns no socket; it is
//!    tested with data. Code that touches the machine decides nothing; it is tested with a real kernel.
//! 5. **An unreachable cluster is a normal state.** The last good cluster is kept in memory and in a
//!    snapshot on disk. The node works from it, also across its own reboot. Incomplete data removes
//!    nothing that the missing part could still claim.
//!
//! The desired state is a sum of **units**: the base (links, sysctls, the nftables table), the routes to
//! other nodes, the routes that BGP learned, and each Service. A full pass computes all units. An event
//! dirties some of them; [`reconcile`] computes these before and after the event and applies the
//! difference. An audit compares everything with the kernel at an interval.
//!
//! Damage stays where it is: an invalid field costs its own field, an invalid object its own object, and
//! a Service that claims what another one has is refused alone. A refused step does not stop the others;
//! it is logged with the kernel's own text and tried again.
//!
//! # One pass
//!
//! 1. An event wakes the loop of the [`daemon`]; `sync` starts here without one.
//! 2. `Kernel::host` reads the facts about this host, and `desired` computes the wanted items. A request
//!    that cannot be honoured becomes an unmet request.
//! 3. `Kernel::observe` reads our objects in a scope.
//! 4. `drain` keeps real servers that still have connections, at weight 0.
//! 5. `plan` returns the steps: additions and changes in the order of creation, then removals in reverse.
//!    A changed object is replaced, never deleted first. An equal object is not touched.
//! 6. `Kernel::apply` sends the steps in batches (the nftables table in one transaction) and reports the
//!    result of each step.
//! 7. Conntrack entries of UDP flows to endpoints that are gone are deleted.
//!
//! # The modules
//!
//! | module | purpose | may import |
//! |---|---|---|
//! | [`commands`] | one file for each command; all that the binary calls | all below |
//! | [`cli`] | flags, configuration file, help | `error`, `model` |
//! | [`daemon`] | `kinglet run`: event loop, schedule, reporter | `announce`, `api`, `bgp`, `kernel`, `reconcile`, `report`, and below |
//! | [`report`] | status, health probes, metrics | `bgp`, `desired`, `model`, `sys` |
//! | [`reconcile`] | full and incremental passes, drains, stale flows | `desired`, `kernel`, `plan`, `model` |
//! | [`announce`] | cluster → configuration of the BGP speaker; pure | `desired`, `model` |
//! | [`desired`] | cluster → items; pure | `model`, `codec` |
//! | [`api`] | all HTTP to the API server: client, list, watch, snapshot | `model`, `codec` |
//! | [`bgp`] | the BGP speaker: messages, state machine, table, policy, BFD | `model`, `sys` |
//! | [`kernel`] | items ↔ netlink messages and files: observe, apply, notifications | `netlink`, `plan`, `model`, `codec`, `sys` |
//! | [`plan`] | the difference of two sets of items, as steps, text or shell script; pure | `model` |
//! | [`model`] | the data that the modules exchange; no I/O and no log | `codec`, `collections` |
//! | [`netlink`] | sockets and messages, without items | `sys` |
//! | [`sys`] | all `unsafe` code: system calls that std lacks | – |
//! | [`codec`] | JSON, gzip, YAML | `collections` |
//! | [`collections`] | map and set in a sorted vector | – |
//! | [`family`] | IPv4 or IPv6 | – |
//! | `hash`, `rng` | FNV-1a, and a xorshift generator for jitter and tests | – |
//! | [`error`], [`log`] | the error `doing: cause`, and log lines | – |
//!
//! `collections`, `error`, `family`, `hash`, `log` and `rng` are at the ground and open to the modules above them.
//! Imports never run upward, and never from a pure module to one with effects. Only `api` names ureq and
//! rustls, only `netlink` and `kernel` name neli, only `cli` names lexopt, only `daemon` and `report` name
//! smol, and only `sys` has unsafe code. The test `layers` holds these rules.
//!
//! # Vocabulary
//!
//! | word | meaning |
//! |---|---|
//! | access check | a request that shows if the credentials may read a kind (`kinglet check`) |
//! | adopt | treat an existing object that is wanted as ours, and correct it |
//! | advertise, withdraw | send a route to a BGP peer, or take it back |
//! | audit | the comparison of everything with the kernel, at an interval |
//! | base | the unit that does not depend on other nodes or Services |
//! | board | the machine with its kernel and init system; `boards/` has a folder for each kind |
//! | claim | the right of one object to an address, port or mark; the first object by name gets it |
//! | cleanup | the removal of everything that is ours |
//! | delta | the objects that an update of the store changed |
//! | desired state | the items that this node should have |
//! | destination | a network in the BGP table, with its paths |
//! | drain | let a real server that must go keep its connections for a grace period, at weight 0 |
//! | dump | the cluster, the host and the kernel of a node as JSON, for a bug report |
//! | element | a key in a set of our nftables table |
//! | endpoint | an address and port of a pod behind a Service, from an EndpointSlice |
//! | guard | the rule that drops packets to virtual addresses at ports of no Service |
//! | hold time | the time after which a silent BGP peer is considered down |
//! | incomplete | a kind of object of which a part is missing or invalid, so that nothing it may claim is removed |
//! | item | one object in the kernel or on disk |
//! | kind | a kind of API object: Node, Service, EndpointSlice |
//! | leftover | a trace of another proxy or network on this board |
//! | learned route | a route that a BGP peer advertised and that the import policy accepted |
//! | next hop | the gateway of a route |
//! | observe | read our objects from the kernel |
//! | ours | made by kinglet, or adopted (see below) |
//! | pass | one reconcile: full (all units) or incremental (the dirty units) |
//! | podCIDR | the network of the pods of one node |
//! | real server | a destination of an IPVS virtual service |
//! | resync | the list of everything at an interval, beside the watch |
//! | right | said of a node that has no problem: nothing is missing, refused or unknown |
//! | scope | the part of the kernel's objects that a pass observes |
//! | snapshot | the last good cluster on disk |
//! | step | one change: add, change or remove an item |
//! | store | the last good cluster in memory, to which lists and watch events are applied |
//! | unit | a part of the desired state that is computed alone |
//! | unmet request | a request of the cluster that this node cannot honour, with the reason |
//! | virtual address | an address of a Service, on kube-dummy-if |
//! | virtual service | an IPVS service: virtual address, protocol and port, or a mark |
//!
//! # Ownership
//!
//! A set of items never holds an object of another program, and kinglet never removes one.
//!
//! | object | ours if | removed by a pass |
//! |---|---|---|
//! | route in table main | its protocol is 17, which is kube-router's, so that a change from one to the other leaves nothing behind; not if it leaves through a tunnel of kube-router | if no Node claims it, and no BGP peer can still claim it |
//! | route in table local | its device is kube-dummy-if | with its virtual address |
//! | address | it is on kube-dummy-if and not link-local | if no Service has it |
//! | IPVS service | its address is on kube-dummy-if, or the set `services` of our table records it, or it has one of our marks; a wanted service is adopted; never in `--excluded-cidrs` | if no Service has it |
//! | real server | its service is ours | if no endpoint stands for it and it is drained |
//! | nftables table | it is `inet kinglet` | never; it is replaced in one transaction if its rules differ |
//! | nftables element | it is in our table | if nothing needs it |
//! | rule in another program's chain | its comment is ours | if the chain no longer drops by policy |
//! | link | it is kube-bridge or kube-dummy-if | never |
//! | sysctl, module, IPVS timeout, hairpin port | it is wanted | never |
//! | file | its path is the CNI configuration; unknown keys are kept | never |
//!
//! A part that a flag switches off is neither observed nor touched. `kinglet cleanup` also removes the
//! table and the links, but kube-bridge only if no port is connected to it; sysctls, modules and the CNI
//! configuration stay. One process at a time may change a node: it holds an abstract Unix socket
//! (`kernel::lock`), which belongs to the network namespace and is released when its holder exits.
//!
//! # Standards
//!
//! | standard | subject | module |
//! |---|---|---|
//! | RFC 4271 | BGP-4: messages, state machine, decision process | `bgp` |
//! | RFC 1997, 8092 | communities, large communities | `bgp::policy`, `bgp::update` |
//! | RFC 2545, 4760 | IPv6 and other families in UPDATE | `bgp::update`, `bgp::capability` |
//! | RFC 2918, 7313 | route refresh (7313: the other subtypes are ignored) | `bgp::capability`, `bgp::message` |
//! | RFC 4456 | route reflection | `bgp::policy` |
//! | RFC 4486, 6608, 9003, 9384 | codes and texts of NOTIFICATION | `bgp::notification` |
//! | RFC 4724 | graceful restart | `bgp::rib`, `bgp::fsm` |
//! | RFC 5065, 6793, 7607 | AS_PATH: confederations, 4-byte AS numbers, AS 0 | `bgp::as_path`, `bgp::update` |
//! | RFC 5492, 9072 | capabilities in OPEN | `bgp::capability` |
//! | RFC 6286 | BGP Identifier | `bgp::fsm`, `announce` |
//! | RFC 7606 | errors in UPDATE | `bgp::update` |
//! | RFC 2385, 5082 | TCP MD5 signatures, GTSM | `sys` |
//! | RFC 5880, 5881, 5882 | BFD | `bgp::bfd`, `bgp::speaker` |
//! | RFC 8259, 1951, 1952, 7468 | JSON, gzip, PEM | `codec`, `api` |
//! | RFC 9112 | HTTP/1.1, the server side | `report::http` |
//! | Kubernetes API v1, discovery.k8s.io/v1 | list, watch, the fields of the objects | `api`, `api::wire` |
//! | kube-proxy's rules and KEPs 1669, 2433, 3015 | choice of endpoints, health checks, stale UDP flows | `desired::endpoints`, `desired::health`, `reconcile::stale_flows` |
//! | CNI specification, network configuration lists | the file for the bridge plugin | `desired::cni_config` |
//! | Prometheus text format 0.0.4 | metrics | `report::metrics` |
//! | sd-daemon(3) | priorities of log lines | [`log`] |
//!
//! | kernel interface | subject | module |
//! |---|---|---|
//! | netlink(7): linux/netlink.h, linux/genetlink.h | messages, acknowledgements, extended errors | `netlink` |
//! | rtnetlink(7): linux/rtnetlink.h, if_link.h, if_addr.h | links, addresses, routes, rules, neighbours, notifications | `netlink`, `kernel::route`, `kernel::events` |
//! | linux/ip_vs.h | IPVS over generic netlink | `netlink::ipvs`, `kernel::ipvs` |
//! | linux/netfilter/nf_tables.h | nftables | `kernel::nft` |
//! | linux/netfilter/nfnetlink_conntrack.h | conntrack entries | `netlink::conntrack`, `kernel::conntrack` |
//! | linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h | chains of iptables-legacy, read only | `kernel::xtables` |
//! | /proc/sys, /proc/net, /proc/config.gz, /lib/modules | sysctls, listening ports, options and modules of the kernel | `kernel::files` |
//! | unix(7) | the lock, and the status socket | `kernel::lock`, `report` |
//! | poll(2), eventfd(2), signalfd(2), capabilities(7), finit_module(2), tcp(7), linux/filter.h | waiting, signals, rights, modules, socket options, socket filters | `sys` |

#![warn(unreachable_pub)] // an item that only this crate uses is pub(crate)
#![allow(rustdoc::private_intra_doc_links)] // the documentation is made with --document-private-items

mod announce;
pub mod api;
pub mod bgp;
pub mod cli;
mod codec;
pub mod collections;
pub mod commands;
mod daemon;
pub mod desired;
pub mod error;
pub mod family;
mod hash;
pub mod kernel;
pub mod log;
pub mod model;
pub mod netlink;
pub mod plan;
pub mod reconcile;
pub mod report;
mod rng;
pub mod sys;
