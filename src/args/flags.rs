//! The table of flags.

use std::net::IpAddr;

use ipnet::IpNet;

/// A flag: how it is typed, and what it is for.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub letter: Option<char>,
    pub value: Value,
    /// As it would be typed.
    pub default: &'static str,
    /// Empty where it has no effect in this version.
    pub does: &'static str,
    pub honoured: bool,
}

/// What kind of value a flag takes.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// true or false.
    Switch,
    Text,
    Path,
    /// Go's syntax: `1m30s`.
    Duration,
    /// From 0 to this.
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
    /// Whether a text is such a value; else what is expected, in words.
    pub fn check(&self, text: &str) -> Result<(), String> {
        let every = |good: &dyn Fn(&str) -> bool| list(text).all(good);
        let (good, expected) = match self {
            Value::Switch => (switch(text).is_some(), "true or false"),
            Value::Text | Value::Texts => return Ok(()),
            Value::Path => (!text.is_empty(), "a file"),
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

    /// How the help text shows it.
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

/// The parts of a list.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// The values that Go's strconv.ParseBool takes.
pub fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The values that Go's time.ParseDuration takes and that are not negative, in whole seconds, rounded up.
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
        // The longer ones first: `m` is the head of `ms`.
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

/// A decimal number times a factor: `1.5`, `1.`, `.5`.
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

/// A flag that is honoured.
const fn on(name: &'static str, value: Value, default: &'static str, does: &'static str) -> Flag {
    Flag { name, letter: None, value, default, does, honoured: true }
}

/// A flag of kube-router's that is known and has no effect yet.
const fn off(name: &'static str, value: Value, default: &'static str) -> Flag {
    Flag { name, letter: None, value, default, does: "", honoured: false }
}

const fn short(letter: char, flag: Flag) -> Flag {
    Flag { letter: Some(letter), ..flag }
}

/// Every flag, the honoured ones first, in the order of the help text.
#[rustfmt::skip] // one row, one line
pub const FLAGS: &[Flag] = &[
    on("config", Value::Path, "/etc/kinglet.conf", "file with more of these, one `flag = value` a line; what is typed wins"),
    on("master", Value::Text, "", "URL of the API server, its own address and not its ClusterIP"),
    on("kubeconfig", Value::Text, "", "file with the address of the API server and credentials"),
    on("hostname-override", Value::Text, "", "name of this node's Node object; else NODE_NAME, else the host's name"),
    on("run-router", Value::Switch, "true", "CNI configuration and routes to the other nodes' pods"),
    on("run-service-proxy", Value::Switch, "true", "Services, in IPVS"),
    on("run-firewall", Value::Switch, "true", "network policy: NOT enforced by this version; false silences its warning"),
    on("enable-cni", Value::Switch, "true", "put the node's podCIDR into the CNI configuration"),
    on("cni-conf-file", Value::Path, "/etc/cni/net.d/10-kuberouter.conflist", "the CNI configuration; else KUBE_ROUTER_CNI_CONF_FILE"),
    on("auto-mtu", Value::Switch, "true", "give the pods the MTU of the node's link"),
    on("enable-ipv4", Value::Switch, "true", "use IPv4"),
    on("enable-ipv6", Value::Switch, "false", "use IPv6; where not given: where the node has it"),
    on("excluded-cidrs", Value::Cidrs, "", "networks whose IPVS services are left to somebody else"),
    on("nodeport-bindon-all-ip", Value::Switch, "false", "serve NodePorts at all of this node's addresses, not at its first alone"),
    on("nodeport-addresses", Value::PrimaryOrCidrs, "primary", "serve NodePorts at this node's addresses of these networks"),
    on("ipvs-permit-all", Value::Switch, "true", "close virtual addresses but for the ports of Services"),
    on("masquerade-all", Value::Switch, "false", "masquerade all that comes through a Service"),
    on("enable-pod-egress", Value::Switch, "true", "masquerade what pods send out of the cluster"),
    on("service-external-ip-range", Value::Cidrs, "", "networks that external addresses must be of, where given"),
    on("strict-external-ip-validation", Value::Switch, "true", "heed --service-external-ip-range"),
    on("service-tcp-timeout", Value::Duration, "0s", "for how long IPVS remembers a TCP connection on which nothing happens; 0: the kernel's"),
    on("service-tcpfin-timeout", Value::Duration, "0s", "the same, when one side has closed it"),
    on("service-udp-timeout", Value::Duration, "0s", "the same, of a UDP flow"),
    on("ipvs-graceful-termination", Value::Switch, "true", "let an endpoint that goes keep its connections for a while"),
    on("ipvs-graceful-period", Value::Duration, "30s", "for how long"),
    on("routes", Value::OneOf(&["nodes", "bgp", "both"]), "both", "who tells of routes to the other nodes' pods: their Node objects, BGP, or the objects first; with nodes and no router outside, BGP is not spoken"),
    on("nodes-full-mesh", Value::Switch, "true", "all nodes are of one AS and speak BGP with each other; false: each with those of its own AS, an annotation"),
    on("enable-ibgp", Value::Switch, "true", "nodes speak BGP with each other at all"),
    on("cluster-asn", Value::Number(4_294_967_295), "0", "the AS of all nodes of a full mesh; 0: 64512"),
    on("router-id", Value::Text, "", "this node's BGP Identifier; else its first IPv4 address; generate: a hash of its address"),
    on("bgp-port", Value::Number(65_535), "179", "the nodes listen for BGP at this port"),
    on("bgp-holdtime", Value::Duration, "1m30s", "a router outside that says nothing for so long is taken for gone"),
    on("bgp-graceful-restart", Value::Switch, "false", "ask that routes are kept while this node's BGP starts again"),
    on("bgp-graceful-restart-time", Value::Duration, "1m30s", "for how long"),
    on("peer-router-ips", Value::Addrs, "", "speak BGP with these routers outside"),
    on("peer-router-asns", Value::Numbers, "", "their ASes, one for each"),
    on("peer-router-ports", Value::Numbers, "", "their ports, one for each; else 179"),
    on("peer-router-passwords", Value::Texts, "", "their passwords (TCP MD5) in base64, one for each; one may be left out between commas"),
    on("peer-router-passwords-file", Value::Text, "", "file that holds this list instead"),
    on("peer-router-multihop-ttl", Value::Number(255), "0", "how many hops away they may be, when they are of another AS"),
    on("peer-router-ttl-security", Value::Switch, "false", "take nothing from farther away than that (RFC 5082); they have to do the same"),
    on("enable-bfd", Value::Switch, "false", "watch the way to them with BFD (RFC 5880), so that one that breaks is known at once"),
    on("bfd-desired-min-tx-interval", Value::Number(4_294_967_295), "1000", "how often we want to send, in milliseconds"),
    on("bfd-required-min-rx-interval", Value::Number(4_294_967_295), "1000", "how often they may send, in milliseconds"),
    on("bfd-detection-multiplier", Value::Number(4_294_967_295), "3", "so many packets that do not come mean that the way is broken"),
    on("bfd-port", Value::Number(65_535), "3784", "the port at which both sides listen"),
    on("advertise-pod-cidr", Value::Switch, "true", "tell routers outside of the pods"),
    on("advertise-cluster-ip", Value::Switch, "false", "and of ClusterIPs; an annotation of a Service may say otherwise"),
    on("advertise-external-ip", Value::Switch, "false", "and of external addresses; the same"),
    on("advertise-loadbalancer-ip", Value::Switch, "false", "and of load balancers' addresses; the same"),
    on("advertise-cluster-ip-range", Value::Switch, "false", "and of --service-cluster-ip-range, in place of each ClusterIP in it"),
    on("service-cluster-ip-range", Value::Cidrs, "", "the networks of ClusterIPs, as the API server has them; only for --advertise-cluster-ip-range"),
    on("override-nexthop", Value::Switch, "false", "routers outside are always given this node as the next hop"),
    on("poll-interval", Value::Duration, "0s", "ask the API so often for what changed; 0s: keep a watch open"),
    on("resync-period", Value::Duration, "1h", "list everything again so often, whatever was heard"),
    on("snapshot", Value::Text, "/var/lib/kinglet/snapshot", "file for the last good cluster, to work from without the API; \"\": none"),
    on("audit-period", Value::Duration, "60s", "look at all of the kernel so often, whatever it told"),
    on("health-addr", Value::Addr, "", "answer /healthz and /livez at this address alone; empty: at all"),
    on("health-port", Value::Number(65_535), "20244", "and at this port; 0: nowhere"),
    on("proxy-health-port", Value::Number(65_535), "0", "answer there too: kube-proxy's is 10256, which load balancers of clouds ask"),
    on("metrics-addr", Value::Addr, "", "show metrics at this address alone; empty: at all"),
    on("metrics-port", Value::Number(65_535), "0", "and at this port; 0: nowhere"),
    on("metrics-path", Value::Text, "/metrics", "under this path"),
    on("run-dir", Value::Path, "/run/kinglet", "folder of the status socket"),
    on("watch", Value::Switch, "false", "status: show it again every two seconds"),
    on("peer", Value::Addr, "", "bgp routes: those of this peer"),
    on("in", Value::Switch, "false", "bgp routes: what the peer told"),
    on("out", Value::Switch, "false", "bgp routes: what the peer was told"),
    on("format", Value::OneOf(&["text", "sh", "json"]), "text", "how plan is printed (sync, status: text or json)"),
    on("from", Value::Path, "", "plan from a dump, or from a list that kubectl printed; - is standard input"),
    short('v', on("v", Value::Text, "0", "how much is logged: no effect yet, and no warning")),
    short('V', on("version", Value::Switch, "false", "print the version")),
    short('h', on("help", Value::Switch, "false", "print this text")),
    on("cleanup-config", Value::Switch, "false", "as the command cleanup"),
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
