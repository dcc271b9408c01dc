//! The table of flags: [`FLAGS`] has one row for each flag, and a new flag is one new row. Parsing, checks,
//! the configuration file, the help text and boards/FLAGS.md are made from the table. A default is written
//! in its row only.

use self::Section::{Bgp, Cluster, CommandLine, Daemon, Ignored, Pods, Services};
use super::{
    command::{Command, Format},
    low_args::LowArgs,
    value::{FlagChoice, ValueHint, ValueKind},
};
use crate::model::local::Routes;
use ValueKind::{
    Addr, Addrs, Cidrs, Duration, Number, Numbers, Passwords, Path, Port, PrimaryOrCidrs, Switch,
    Text,
};

/// A flag.
#[derive(Debug)]
pub(crate) struct Flag {
    pub section: Section,
    /// The name, followed by `=` and the default value if there is one: a line of a configuration file.
    setting: &'static str,
    pub letter: Option<char>,
    /// The kind of the value, and the function that stores it in [`LowArgs`].
    pub kind: ValueKind,
    /// The help text; empty for flags of [`Section::Ignored`].
    pub help: &'static str,
}

impl Flag {
    /// Returns the name, without the leading `--`.
    pub(crate) fn name(&self) -> &'static str {
        self.setting.split_once('=').map_or(self.setting, |(name, _)| name)
    }

    /// Returns the default value, in the syntax of the command line; empty if there is none.
    pub(crate) fn default(&self) -> &'static str {
        self.setting.split_once('=').map_or("", |(_, value)| value)
    }
}

/// A section of the help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Cluster,
    Pods,
    Services,
    Bgp,
    Daemon,
    /// Flags that the configuration file must not contain, because they belong to a single command.
    CommandLine,
    /// Flags of kube-router that are accepted and have no effect in this version.
    Ignored,
}

impl Section {
    /// Returns the heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Section::Cluster => "of the cluster and the node",
            Section::Pods => "of the pod network",
            Section::Services => "of Services",
            Section::Bgp => "of routes and BGP",
            Section::Daemon => "of API polling, health checks and metrics",
            Section::CommandLine => "for the command line only",
            Section::Ignored => {
                "of kube-router, without effect in this version (accepted with a warning)"
            }
        }
    }
}

/// The flags whose value comes from an environment variable if neither the command line nor the
/// configuration file has the flag.
pub(crate) const ENVIRONMENT: [(&str, &str); 1] = [("cni-conf-file", "KUBE_ROUTER_CNI_CONF_FILE")];

const ROUTES: FlagChoice = FlagChoice {
    words: &["nodes", "bgp", "both"],
    set: |a, at| a.bgp.routes = [Routes::Nodes, Routes::Bgp, Routes::Both][at],
};
const FORMAT: FlagChoice = FlagChoice {
    words: &["text", "sh", "json"],
    set: |a, at| a.format = [Format::Text, Format::Sh, Format::Json][at],
};

/// Kinds of flags without effect: the value is checked and dropped.
const SWITCH: ValueKind = Switch(|_, _| ());
const DURATION: ValueKind = Duration(|_, _| ());
const TEXT: ValueKind = Text(ValueHint::Text, |_, _| ());
const PORT: ValueKind = Port(|_, _| ());
const CIDRS: ValueKind = Cidrs(|_, _| ());
const OVERLAY_ENCAP: FlagChoice = FlagChoice { words: &["ipip", "fou"], set: |_, _| () };
const OVERLAY_TYPE: FlagChoice = FlagChoice { words: &["subnet", "full"], set: |_, _| () };

/// Returns a row for a flag that has an effect.
const fn on(section: Section, setting: &'static str, kind: ValueKind, help: &'static str) -> Flag {
    Flag { section, setting, letter: None, kind, help }
}

/// Returns a row for a flag of kube-router that is accepted and has no effect yet.
const fn off(setting: &'static str, kind: ValueKind) -> Flag {
    Flag { section: Ignored, setting, letter: None, kind, help: "" }
}

/// Adds a one-letter form to a row.
const fn short(letter: char, flag: Flag) -> Flag {
    Flag { letter: Some(letter), ..flag }
}

/// Returns a text, or `None` if it is empty.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// All flags by section, in the order of the help text.
#[rustfmt::skip] // one row, one line
pub(crate) static FLAGS: &[Flag] = &[
    on(Cluster, "master", Text(ValueHint::Url, |a, url| a.master = given(url)), "URL of the API server: its own address, not its ClusterIP"),
    on(Cluster, "kubeconfig", Text(ValueHint::File, |a, file| a.kubeconfig = given(file).map(Into::into)), "file with the address of the API server and the credentials"),
    on(Cluster, "hostname-override", Text(ValueHint::Name, |a, name| a.hostname_override = given(name)), "name of this node's Node object; else NODE_NAME, else the host's name"),
    on(Cluster, "snapshot=/var/lib/kinglet/snapshot", Text(ValueHint::File, |a, file| a.snapshot = given(file).map(Into::into)), "file with the last good cluster, to work without the API; \"\" disables it"),
    on(Cluster, "run-router=true", Switch(|a, on| a.router = on), "manage the CNI configuration and the routes to other nodes' pods"),
    on(Cluster, "run-service-proxy=true", Switch(|a, on| a.services = on), "serve Services with IPVS"),
    on(Cluster, "run-firewall=true", Switch(|a, on| a.firewall = on), "network policy: NOT enforced by this version; false silences the warning"),
    on(Cluster, "enable-ipv4=true", Switch(|a, on| a.ipv4 = on), "use IPv4"),
    on(Cluster, "enable-ipv6=true", Switch(|a, on| a.ipv6 = on), "use IPv6 if the node has it"),
    short('v', on(Cluster, "v=0", Text(ValueHint::Text, |_, _| ()), "log level; no effect and no warning")),

    on(Pods, "enable-cni=true", Switch(|a, on| a.cni = on), "write the node's podCIDR into the CNI configuration"),
    on(Pods, "cni-conf-file=/etc/cni/net.d/10-kuberouter.conflist", Path(ValueHint::File, |a, file| a.cni_conf = file), "CNI configuration file; else KUBE_ROUTER_CNI_CONF_FILE"),
    on(Pods, "auto-mtu=true", Switch(|a, on| a.auto_mtu = on), "give the pods and the bridge the MTU of the node's link"),
    on(Pods, "enable-pod-egress=true", Switch(|a, on| a.pod_egress = on), "masquerade traffic of pods that leaves the cluster"),

    on(Services, "excluded-cidrs", Cidrs(|a, nets| a.excluded_cidrs.extend(nets)), "networks whose IPVS services belong to another program and are never touched"),
    on(Services, "nodeport-bindon-all-ip=false", Switch(|a, on| a.node_ports_all |= on), "serve NodePorts at all addresses of this node"),
    on(Services, "nodeport-addresses=primary", PrimaryOrCidrs(|a, nets| (a.node_ports_all, a.node_port_nets) = (false, nets)), "serve NodePorts at this node's first address of each family, or at its addresses in these networks"),
    on(Services, "ipvs-permit-all=true", Switch(|a, on| a.guard = on), "guard: at virtual addresses, only the ports of Services are reachable"),
    on(Services, "masquerade-all=false", Switch(|a, on| a.masquerade_all = on), "masquerade all traffic to Services"),
    on(Services, "service-external-ip-range", Cidrs(|a, nets| a.external.extend(nets)), "serve external addresses in these networks only; empty: any"),
    on(Services, "strict-external-ip-validation=true", Switch(|a, on| a.strict_external = on), "apply --service-external-ip-range"),
    on(Services, "service-tcp-timeout=0s", Duration(|a, time| a.timeouts[0] = time), "IPVS timeout of idle TCP connections; 0s keeps the kernel's value"),
    on(Services, "service-tcpfin-timeout=0s", Duration(|a, time| a.timeouts[1] = time), "IPVS timeout of TCP connections that one side has closed"),
    on(Services, "service-udp-timeout=0s", Duration(|a, time| a.timeouts[2] = time), "IPVS timeout of UDP flows"),
    on(Services, "ipvs-graceful-termination=true", Switch(|a, on| a.graceful = on), "let a terminating endpoint keep its TCP connections for a while, at weight 0"),
    on(Services, "ipvs-graceful-period=30s", Duration(|a, time| a.grace = time), "longest time that a terminating endpoint keeps its connections"),

    on(Bgp, "routes=both", ValueKind::Choice(&ROUTES), "source of routes to other nodes' pods: Node objects, BGP, or both (a Node's own address until BGP has a route to the same podCIDR; then the BGP route); with nodes and no --peer-router-ips, BGP does not run"),
    on(Bgp, "nodes-full-mesh=true", Switch(|a, on| a.bgp.mesh = on), "all nodes share one AS and peer with each other; false: with the nodes of their own AS (annotation kube-router.io/node.asn)"),
    on(Bgp, "enable-ibgp=true", Switch(|a, on| a.bgp.inside = on), "let nodes peer with each other at all"),
    on(Bgp, "cluster-asn=0", Number(u32::MAX, |a, asn| a.bgp.asn = asn), "AS of all nodes in a full mesh, for private use; 0 means 64512"),
    on(Bgp, "router-id", Text(ValueHint::RouterId, |a, id| a.bgp.id = id), "BGP Identifier; empty: the first IPv4 address; generate: a hash of the first address, for nodes without IPv4"),
    on(Bgp, "bgp-port=179", Port(|a, port| a.bgp.port = port), "port at which the nodes listen for BGP"),
    on(Bgp, "bgp-holdtime=1m30s", Duration(|a, time| a.bgp.hold = time), "hold time: an outside router that sends nothing for this long is considered down"),
    on(Bgp, "bgp-graceful-restart=false", Switch(|a, on| a.bgp.restart = on), "ask peers to keep routes while this node's BGP restarts (RFC 4724)"),
    on(Bgp, "bgp-graceful-restart-time=1m30s", Duration(|a, time| a.bgp.restart_time = time), "time for which peers keep the routes"),
    on(Bgp, "peer-router-ips", Addrs(|a| &mut a.bgp.ips), "BGP peers outside of the cluster, in place of those in the Node's annotations"),
    on(Bgp, "peer-router-asns", Numbers(|a| &mut a.bgp.asns), "AS numbers of --peer-router-ips, one for each"),
    on(Bgp, "peer-router-ports", Numbers(|a| &mut a.bgp.ports), "ports of --peer-router-ips, one for each; empty: 179"),
    on(Bgp, "peer-router-passwords", Passwords(|a| &mut a.bgp.passwords), "TCP MD5 passwords of --peer-router-ips in base64, one for each; may be empty between commas"),
    on(Bgp, "peer-router-passwords-file", Text(ValueHint::File, |a, file| a.bgp.passwords_file = given(file).map(Into::into)), "file with the list of passwords"),
    on(Bgp, "peer-router-multihop-ttl=0", Number(255, |a, hops| a.bgp.hops = hops as u8), "highest number of hops to outside peers in another AS"),
    on(Bgp, "peer-router-ttl-security=false", Switch(|a, on| a.bgp.ttl_security = on), "drop BGP packets from farther away (GTSM, RFC 5082); the peers must do the same"),
    on(Bgp, "enable-bfd=false", Switch(|a, on| a.bgp.bfd = on), "monitor the path to outside peers with BFD (RFC 5880, 5881): a broken path ends the session at once"),
    on(Bgp, "bfd-port=3784", Port(|a, port| a.bgp.bfd_numbers[0] = port.into()), "port of BFD on both sides"),
    on(Bgp, "bfd-desired-min-tx-interval=1000", Number(u32::MAX, |a, time| a.bgp.bfd_numbers[1] = time), "interval between sent BFD packets, in milliseconds"),
    on(Bgp, "bfd-required-min-rx-interval=1000", Number(u32::MAX, |a, time| a.bgp.bfd_numbers[2] = time), "shortest interval between received BFD packets, in milliseconds"),
    on(Bgp, "bfd-detection-multiplier=3", Number(u32::MAX, |a, times| a.bgp.bfd_numbers[3] = times), "number of missing BFD packets that mean a broken path"),
    on(Bgp, "advertise-pod-cidr=true", Switch(|a, on| a.bgp.pods = on), "advertise this node's podCIDRs to outside peers"),
    on(Bgp, "advertise-cluster-ip=false", Switch(|a, on| a.bgp.cluster_ips = on), "advertise ClusterIPs too; annotation for one Service: kube-router.io/service.advertise.clusterip"),
    on(Bgp, "advertise-external-ip=false", Switch(|a, on| a.bgp.external_ips = on), "advertise external addresses too; annotation: the same with .externalip"),
    on(Bgp, "advertise-loadbalancer-ip=false", Switch(|a, on| a.bgp.balancer_ips = on), "advertise load balancer addresses too; annotation: the same with .loadbalancerip"),
    on(Bgp, "advertise-cluster-ip-range=false", Switch(|a, on| a.bgp.aggregate = on), "advertise --service-cluster-ip-range in place of each ClusterIP in it"),
    on(Bgp, "service-cluster-ip-range", Cidrs(|a, nets| a.bgp.ranges.extend(nets)), "networks of ClusterIPs, as given to the API server; for --advertise-cluster-ip-range"),
    on(Bgp, "override-nexthop=false", Switch(|a, on| a.bgp.next_hop_self = on), "always advertise this node as the next hop to outside peers"),

    on(Daemon, "poll-interval=0s", Duration(|a, time| a.poll_interval = time), "poll the API at this interval; 0s keeps a watch open"),
    on(Daemon, "resync-period=1h", Duration(|a, time| a.resync_period = time), "list everything again at this interval"),
    on(Daemon, "audit-period=60s", Duration(|a, time| a.audit_period = time.max(1)), "compare the whole kernel state at this interval"),
    on(Daemon, "health-addr", Addr(|a, addr| a.health_addr = addr), "address for /healthz and /livez; empty: all"),
    on(Daemon, "health-port=20244", Port(|a, port| a.health_port = port), "port for /healthz and /livez; 0: none"),
    on(Daemon, "proxy-health-port=0", Port(|a, port| a.proxy_health_port = port), "port for kube-proxy's health check, 10256 there; 0: none"),
    on(Daemon, "metrics-addr", Addr(|a, addr| a.metrics_addr = addr), "address for metrics; empty: all"),
    on(Daemon, "metrics-port=0", Port(|a, port| a.metrics_port = port), "port for metrics; 0: none"),
    on(Daemon, "metrics-path=/metrics", Text(ValueHint::Path, |a, path| a.metrics_path = path), "URL path of metrics"),
    on(Daemon, "run-dir=/run/kinglet", Path(ValueHint::Folder, |a, folder| a.run_dir = folder), "folder of the status socket"),

    on(CommandLine, "config=/etc/kinglet.conf", Path(ValueHint::File, |a, file| a.config = file), "configuration file, one `flag = value` a line; flags on the command line take precedence"),
    on(CommandLine, "format=text", ValueKind::Choice(&FORMAT), "output of plan; text or json for sync, status and bgp"),
    on(CommandLine, "from", Path(ValueHint::File, |a, file| a.from = Some(file)), "plan from a dump or kubectl's list instead of the API; - is standard input"),
    on(CommandLine, "watch=false", Switch(|a, on| a.watch = on), "status: print it again every two seconds"),
    on(CommandLine, "peer", Addr(|a, addr| a.peer = given(addr)), "bgp routes: routes of this peer"),
    on(CommandLine, "in=false", Switch(|a, on| a.only_in = on), "bgp routes: those received from the peer"),
    on(CommandLine, "out=false", Switch(|a, on| a.only_out = on), "bgp routes: those advertised to the peer"),
    on(CommandLine, "cleanup-config=false", Switch(|a, on| a.ask(on, Command::Cleanup)), "the same as the command cleanup"),
    short('V', on(CommandLine, "version=false", Switch(|a, on| a.ask(on, Command::Version)), "print the version")),
    short('h', on(CommandLine, "help=false", Switch(|a, on| a.ask(on, Command::Help)), "print this text")),

    off("bgp-graceful-restart-deferral-time=6m0s", Duration(|a, time| a.bgp.deferral = time)),
    off("cache-sync-timeout=1m0s", DURATION),
    off("disable-source-dest-check=true", SWITCH),
    off("enable-overlay=true", SWITCH),
    off("enable-pprof=false", SWITCH),
    off("gobgp-admin-address=127.0.0.1", TEXT),
    off("gobgp-admin-port=50051", PORT),
    off("hairpin-mode=false", SWITCH),
    off("injected-routes-sync-period=1m0s", DURATION),
    off("iptables-sync-period=5m0s", DURATION),
    off("ipvs-sync-period=5m0s", DURATION),
    off("loadbalancer-default-class=true", SWITCH),
    off("loadbalancer-ip-range", CIDRS),
    off("loadbalancer-sync-period=1m0s", DURATION),
    off("netpol-default-deny=false", SWITCH),
    off("overlay-encap=ipip", ValueKind::Choice(&OVERLAY_ENCAP)),
    off("overlay-encap-port=5555", PORT),
    off("overlay-type=subnet", ValueKind::Choice(&OVERLAY_TYPE)),
    off("routes-sync-period=5m0s", DURATION),
    off("run-loadbalancer=false", SWITCH),
    off("runtime-endpoint", TEXT),
    off("service-node-port-range=30000-32767", TEXT),
    off("use-nftables-for-netpol=false", SWITCH),
];

/// Returns the values of a command line without flags.
pub(crate) fn defaults() -> LowArgs {
    let mut args = LowArgs::default();
    for flag in FLAGS.iter().filter(|flag| !flag.default().is_empty()) {
        // A test shows that every default is a value of its kind.
        let _ = flag.kind.set(&mut args, flag.default());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_flag() {
        let mut args = LowArgs::default();
        for flag in FLAGS.iter().filter(|flag| !flag.default().is_empty()) {
            assert_eq!(flag.kind.set(&mut args, flag.default()), Ok(()), "{}", flag.name());
        }
        assert_eq!(args.asked, None);
    }

    #[test]
    fn names_are_unique_and_sections_are_contiguous() {
        let mut names: Vec<&str> = FLAGS.iter().map(Flag::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FLAGS.len());
        let sections: Vec<Section> =
            FLAGS.chunk_by(|a, b| a.section == b.section).map(|flags| flags[0].section).collect();
        for (i, section) in sections.iter().enumerate() {
            assert!(!sections[..i].contains(section), "{section:?} occurs twice");
        }
    }

    /// Returns the notes below a section of boards/FLAGS.md.
    fn notes(section: Section) -> &'static str {
        match section {
            Section::Cluster => {
                "With `--run-service-proxy=false`, Services are read only if a flag advertises their \
             addresses.\n"
            }
            Section::Bgp => {
                "An annotation of a Service takes precedence over its flag. An address with a Local traffic \
             policy is advertised only while this node has a ready endpoint; a ClusterIP with a Local \
             policy is advertised beside the range of `--advertise-cluster-ip-range`. BFD runs in \
             asynchronous mode over one hop. If it finds the path broken, the session ends at once \
             instead of after the hold time. `--peer-router-passwords-file` takes precedence over \
             `--peer-router-passwords`.\n"
            }
            _ => "",
        }
    }

    /// Returns boards/FLAGS.md.
    fn markdown() -> String {
        let mut text = String::from(
            "# Flags\n\n\
         This file is generated from the table in the source; a test compares the two.\n\n\
         The names and the syntax are those of kube-router: `--flag value` or `--flag=value`. \
         `--flag=false` turns a switch off (`--flag false` does not). The elements of a list are \
         separated by commas, and a list flag may be repeated. A duration has units: `90s`, `1m30s`, \
         `2h`. `kinglet help` prints the same table.\n\n\
         `/etc/kinglet.conf` (or `--config FILE`) may contain the flags too, one `flag = value` on each \
         line; a line that begins with `#` is a comment. A flag on the command line takes precedence.\n",
        );
        for flags in FLAGS.chunk_by(|a, b| a.section == b.section) {
            let section = flags[0].section;
            text += &format!("\n## Flags {}\n\n", section.title());
            let is_ignored = section == Section::Ignored;
            text += if is_ignored {
                "A value other than the default, which is kube-router's, causes one warning.\n\n\
             | flag | default |\n|---|---|\n"
            } else {
                "| flag | default | effect |\n|---|---|---|\n"
            };
            for flag in flags {
                let letter = flag.letter.map_or(String::new(), |letter| format!("`-{letter}`, "));
                let value = flag.kind.placeholder();
                let typed = format!("--{} {value}", flag.name());
                let typed = format!("{letter}`{}`", typed.trim_end());
                let cells =
                    [&*typed, flag.default(), flag.help].map(|cell| cell.replace('|', "\\|"));
                text += &format!("| {} |\n", cells[..if is_ignored { 2 } else { 3 }].join(" | "));
            }
            if !notes(section).is_empty() {
                text += &format!("\n{}", notes(section));
            }
        }
        text
    }

    #[test]
    fn boards_flags_md_matches_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/boards/FLAGS.md");
        if std::env::var_os("KINGLET_WRITE").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == markdown(),
            "boards/FLAGS.md differs from the table of flags; to write it again: \
         KINGLET_WRITE=1 cargo test --lib flags_md"
        );
    }
}
