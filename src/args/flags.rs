//! The table of flags: [`FLAGS`] has one row for each. Parsing, checks, the configuration file and the help
//! text are made from it. The parsers of single values follow Go's, because the flags are kube-router's.

use std::net::IpAddr;

use ipnet::IpNet;

/// A flag.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub letter: Option<char>,
    pub value: Value,
    /// The default value, in the syntax of the command line.
    pub default: &'static str,
    /// The help text; empty if the flag has no effect in this version.
    pub help: &'static str,
    /// False for a flag of kube-router that has no effect in this version.
    pub honoured: bool,
}

/// The kind of a flag's value.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Switch,
    Text,
    Path,
    /// A duration in Go's syntax, for example `1m30s`.
    Duration,
    /// A number from 0 to this one.
    Number(u64),
    OneOf(&'static [&'static str]),
    Texts,
    Numbers,
    Addr,
    Addrs,
    Cidrs,
    PrimaryOrCidrs,
}

impl Value {
    /// Checks that a text is a value of this kind. Fails with a description of the expected value.
    pub fn check(&self, text: &str) -> Result<(), String> {
        let every = |good: &dyn Fn(&str) -> bool| list(text).all(good);
        let (good, expected) = match self {
            Value::Switch => (switch(text).is_some(), "true or false"),
            Value::Text | Value::Texts => return Ok(()),
            Value::Path => (!text.is_empty(), "a path"),
            Value::Duration => (seconds(text).is_some(), "a duration such as 5s, 1m30s or 2h"),
            Value::Numbers => (every(&|t| t.parse::<u32>().is_ok()), "a list of numbers"),
            Value::Addr => (text.is_empty() || text.parse::<IpAddr>().is_ok(), "an address"),
            Value::Addrs => (every(&|t| t.parse::<IpAddr>().is_ok()), "a list of addresses"),
            Value::Cidrs => (every(&|t| t.parse::<IpNet>().is_ok()), "a list of CIDRs"),
            Value::PrimaryOrCidrs if text == "primary" => return Ok(()),
            Value::PrimaryOrCidrs => {
                (every(&|t| t.parse::<IpNet>().is_ok()), "primary, or a list of CIDRs")
            }
            Value::Number(most) if text.parse::<u64>().is_ok_and(|n| n <= *most) => return Ok(()),
            Value::Number(most) => return Err(format!("a number from 0 to {most}")),
            Value::OneOf(words) if words.contains(&text) => return Ok(()),
            Value::OneOf([first @ .., last]) => {
                return Err(format!("{} or {last}", first.join(", ")));
            }
            Value::OneOf([]) => return Err("nothing".into()),
        };
        if good { Ok(()) } else { Err(expected.into()) }
    }

    /// Returns the placeholder for the help text, with a leading space; empty for a switch.
    pub fn placeholder(&self) -> String {
        match self {
            Value::Switch => String::new(),
            Value::Text => " TEXT".into(),
            Value::Path => " FILE".into(),
            Value::Duration => " DURATION".into(),
            Value::Number(_) => " N".into(),
            Value::OneOf(words) => format!(" {}", words.join("|")),
            Value::Texts => " TEXT,…".into(),
            Value::Numbers => " N,…".into(),
            Value::Addr => " IP".into(),
            Value::Addrs => " IP,…".into(),
            Value::Cidrs => " CIDR,…".into(),
            Value::PrimaryOrCidrs => " primary|CIDR,…".into(),
        }
    }
}

/// Returns the elements of a comma-separated list, trimmed, without empty ones.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Parses a boolean as Go's strconv.ParseBool does. `None` if the text is not a boolean.
pub fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Parses a duration as Go's time.ParseDuration does. Returns whole seconds, rounded up; `None` if the
/// text is not a duration or is negative.
pub fn seconds(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: u128 = 0; // in nanoseconds
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - unit.len()];
        // `ms` comes before `m`, which is a prefix of it.
        let units = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000_u64),
        ];
        let (name, factor) = units.iter().find(|(name, _)| unit.starts_with(name))?;
        sum += parts(number, u128::from(*factor))?;
        rest = &unit[name.len()..];
    }
    u64::try_from(sum.div_ceil(1_000_000_000)).ok()
}

/// Multiplies a decimal number (`1.5`, `1.`, `.5`) by a factor. `None` if it is not a number.
fn parts(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| {
        let value = |text: &str| text.parse::<u64>().ok().map(u128::from);
        if text.is_empty() { Some(0) } else { value(text) }
    };
    let fraction = fraction.get(..fraction.len().min(15))?;
    let part = digits(fraction)? * factor / 10_u128.pow(fraction.len() as u32);
    Some(digits(whole)? * factor + part)
}

/// Returns a row for a flag that has an effect.
const fn on(name: &'static str, value: Value, default: &'static str, help: &'static str) -> Flag {
    Flag { name, letter: None, value, default, help, honoured: true }
}

/// Returns a row for a flag of kube-router that is accepted and has no effect yet.
const fn off(name: &'static str, value: Value, default: &'static str) -> Flag {
    Flag { name, letter: None, value, default, help: "", honoured: false }
}

/// Adds a one-letter form to a row.
const fn short(letter: char, flag: Flag) -> Flag {
    Flag { letter: Some(letter), ..flag }
}

/// All flags, in the order of the help text; the ones without effect are last.
#[rustfmt::skip] // one row, one line
pub const FLAGS: &[Flag] = &[
    on("config", Value::Path, "/etc/kinglet.conf", "configuration file, one `flag = value` a line; flags on the command line take precedence"),
    on("master", Value::Text, "", "URL of the API server: its own address, not its ClusterIP"),
    on("kubeconfig", Value::Text, "", "file with the address of the API server and the credentials"),
    on("hostname-override", Value::Text, "", "name of this node's Node object; else NODE_NAME, else the host's name"),
    on("run-router", Value::Switch, "true", "manage the CNI configuration and the routes to other nodes' pods"),
    on("run-service-proxy", Value::Switch, "true", "serve Services with IPVS"),
    on("run-firewall", Value::Switch, "true", "network policy: NOT enforced by this version; false silences the warning"),
    on("enable-cni", Value::Switch, "true", "write the node's podCIDR into the CNI configuration"),
    on("cni-conf-file", Value::Path, "/etc/cni/net.d/10-kuberouter.conflist", "CNI configuration file; else KUBE_ROUTER_CNI_CONF_FILE"),
    on("auto-mtu", Value::Switch, "true", "give the pods and the bridge the MTU of the node's link"),
    on("enable-ipv4", Value::Switch, "true", "use IPv4"),
    on("enable-ipv6", Value::Switch, "false", "use IPv6; if not given: if the node has it"),
    on("excluded-cidrs", Value::Cidrs, "", "networks whose IPVS services belong to another program and are never touched"),
    on("nodeport-bindon-all-ip", Value::Switch, "false", "serve NodePorts at all addresses of this node"),
    on("nodeport-addresses", Value::PrimaryOrCidrs, "primary", "serve NodePorts at this node's first address of each family, or at its addresses in these networks"),
    on("ipvs-permit-all", Value::Switch, "true", "guard: at virtual addresses, only the ports of Services are reachable"),
    on("masquerade-all", Value::Switch, "false", "masquerade all traffic to Services"),
    on("enable-pod-egress", Value::Switch, "true", "masquerade traffic of pods that leaves the cluster"),
    on("service-external-ip-range", Value::Cidrs, "", "serve external addresses in these networks only; empty: any"),
    on("strict-external-ip-validation", Value::Switch, "true", "apply --service-external-ip-range"),
    on("service-tcp-timeout", Value::Duration, "0s", "IPVS timeout of idle TCP connections; 0s keeps the kernel's value"),
    on("service-tcpfin-timeout", Value::Duration, "0s", "IPVS timeout of TCP connections that one side has closed"),
    on("service-udp-timeout", Value::Duration, "0s", "IPVS timeout of UDP flows"),
    on("ipvs-graceful-termination", Value::Switch, "true", "let a terminating endpoint keep its TCP connections for a while, at weight 0"),
    on("ipvs-graceful-period", Value::Duration, "30s", "longest time that a terminating endpoint keeps them"),
    on("routes", Value::OneOf(&["nodes", "bgp", "both"]), "both", "source of routes to other nodes' pods: Node objects, BGP, or both (a Node's own address until BGP has a route to the same podCIDR; then the BGP route); with nodes and no --peer-router-ips, BGP does not run"),
    on("nodes-full-mesh", Value::Switch, "true", "all nodes share one AS and peer with each other; false: with the nodes of their own AS (annotation kube-router.io/node.asn)"),
    on("enable-ibgp", Value::Switch, "true", "let nodes peer with each other at all"),
    on("cluster-asn", Value::Number(4_294_967_295), "0", "AS of all nodes in a full mesh, for private use; 0 means 64512"),
    on("router-id", Value::Text, "", "BGP Identifier; empty: the first IPv4 address; generate: a hash of the first address, for nodes without IPv4"),
    on("bgp-port", Value::Number(65_535), "179", "port at which the nodes listen for BGP"),
    on("bgp-holdtime", Value::Duration, "1m30s", "hold time: an outside router that sends nothing for this long is considered down"),
    on("bgp-graceful-restart", Value::Switch, "false", "ask peers to keep routes while this node's BGP restarts (RFC 4724)"),
    on("bgp-graceful-restart-time", Value::Duration, "1m30s", "time for which peers keep them"),
    on("peer-router-ips", Value::Addrs, "", "BGP peers outside of the cluster, in place of those in the Node's annotations"),
    on("peer-router-asns", Value::Numbers, "", "their AS numbers, one for each"),
    on("peer-router-ports", Value::Numbers, "", "their ports, one for each; else 179"),
    on("peer-router-passwords", Value::Texts, "", "their TCP MD5 passwords in base64, one for each; may be empty between commas"),
    on("peer-router-passwords-file", Value::Text, "", "file that holds this list instead"),
    on("peer-router-multihop-ttl", Value::Number(255), "0", "highest number of hops to peers in another AS"),
    on("peer-router-ttl-security", Value::Switch, "false", "drop packets from farther away than that (GTSM, RFC 5082); the peers must do the same"),
    on("enable-bfd", Value::Switch, "false", "monitor the path to outside peers with BFD (RFC 5880, 5881): a broken path ends the session at once"),
    on("bfd-desired-min-tx-interval", Value::Number(4_294_967_295), "1000", "interval between sent packets, in milliseconds"),
    on("bfd-required-min-rx-interval", Value::Number(4_294_967_295), "1000", "shortest interval between received packets, in milliseconds"),
    on("bfd-detection-multiplier", Value::Number(4_294_967_295), "3", "number of missing packets that mean a broken path"),
    on("bfd-port", Value::Number(65_535), "3784", "port of BFD on both sides"),
    on("advertise-pod-cidr", Value::Switch, "true", "advertise this node's podCIDRs to outside peers"),
    on("advertise-cluster-ip", Value::Switch, "false", "advertise ClusterIPs too; annotation for one Service: kube-router.io/service.advertise.clusterip"),
    on("advertise-external-ip", Value::Switch, "false", "advertise external addresses too; annotation: the same with .externalip"),
    on("advertise-loadbalancer-ip", Value::Switch, "false", "advertise load balancer addresses too; annotation: the same with .loadbalancerip"),
    on("advertise-cluster-ip-range", Value::Switch, "false", "advertise --service-cluster-ip-range in place of each ClusterIP in it"),
    on("service-cluster-ip-range", Value::Cidrs, "", "networks of ClusterIPs, as given to the API server; for --advertise-cluster-ip-range"),
    on("override-nexthop", Value::Switch, "false", "always advertise this node as the next hop to outside peers"),
    on("poll-interval", Value::Duration, "0s", "poll the API at this interval; 0s keeps a watch open"),
    on("resync-period", Value::Duration, "1h", "list everything again at this interval"),
    on("snapshot", Value::Text, "/var/lib/kinglet/snapshot", "file with the last good cluster, to work without the API; \"\" disables it"),
    on("audit-period", Value::Duration, "60s", "compare the whole kernel state at this interval"),
    on("health-addr", Value::Addr, "", "address for /healthz and /livez; empty: all"),
    on("health-port", Value::Number(65_535), "20244", "port for /healthz and /livez; 0: none"),
    on("proxy-health-port", Value::Number(65_535), "0", "port for kube-proxy's health check, 10256 there; 0: none"),
    on("metrics-addr", Value::Addr, "", "address for metrics; empty: all"),
    on("metrics-port", Value::Number(65_535), "0", "port for metrics; 0: none"),
    on("metrics-path", Value::Text, "/metrics", "URL path of metrics"),
    on("run-dir", Value::Path, "/run/kinglet", "folder of the status socket"),
    on("watch", Value::Switch, "false", "status: print it again every two seconds"),
    on("peer", Value::Addr, "", "bgp routes: routes of this peer"),
    on("in", Value::Switch, "false", "bgp routes: those received from the peer"),
    on("out", Value::Switch, "false", "bgp routes: those advertised to the peer"),
    on("format", Value::OneOf(&["text", "sh", "json"]), "text", "output of plan; text or json for sync, status and bgp"),
    on("from", Value::Path, "", "plan from a dump or kubectl's list instead of the API; - is standard input"),
    short('v', on("v", Value::Text, "0", "log level; no effect and no warning")),
    short('V', on("version", Value::Switch, "false", "print the version")),
    short('h', on("help", Value::Switch, "false", "print this text")),
    on("cleanup-config", Value::Switch, "false", "the same as the command cleanup"),
    off("bgp-graceful-restart-deferral-time", Value::Duration, "6m0s"),
    off("cache-sync-timeout", Value::Duration, "1m0s"),
    off("disable-source-dest-check", Value::Switch, "true"),
    off("enable-overlay", Value::Switch, "true"),
    off("enable-pprof", Value::Switch, "false"),
    off("gobgp-admin-address", Value::Text, "127.0.0.1"),
    off("gobgp-admin-port", Value::Number(65_535), "50051"),
    off("hairpin-mode", Value::Switch, "false"),
    off("injected-routes-sync-period", Value::Duration, "1m0s"),
    off("iptables-sync-period", Value::Duration, "5m0s"),
    off("ipvs-sync-period", Value::Duration, "5m0s"),
    off("loadbalancer-default-class", Value::Switch, "true"),
    off("loadbalancer-ip-range", Value::Cidrs, ""),
    off("loadbalancer-sync-period", Value::Duration, "1m0s"),
    off("netpol-default-deny", Value::Switch, "false"),
    off("overlay-encap", Value::OneOf(&["ipip", "fou"]), "ipip"),
    off("overlay-encap-port", Value::Number(65_535), "5555"),
    off("overlay-type", Value::OneOf(&["subnet", "full"]), "subnet"),
    off("routes-sync-period", Value::Duration, "5m0s"),
    off("run-loadbalancer", Value::Switch, "false"),
    off("runtime-endpoint", Value::Text, ""),
    off("service-node-port-range", Value::Text, "30000-32767"),
    off("use-nftables-for-netpol", Value::Switch, "false"),
];
