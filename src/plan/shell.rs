//! Prints the steps of a plan as a shell script of `ip`, `bridge`, `ipvsadm`, `nft`, `sysctl` and
//! `modprobe` commands with the same effect ([`script`]).
//!
//! It is for boards on which one would rather read, or keep, a script. A command that fails does
//! not stop the others, as in `sync`. Text from the cluster is quoted for the shell.

use std::net::{IpAddr, SocketAddr};

use super::Step;
use crate::model::{
    items::{
        DUMMY, Forward, Item, NextHops, Protocol, ServiceAddr, ServiceKey, SetElement, TABLE_LOCAL,
        Timeout, iptables,
    },
    nftables::{self, NFT_TABLE, Set},
};

/// Returns the script without its first line (`#!`).
pub fn script(steps: &[Step]) -> String {
    steps.iter().flat_map(commands).fold(String::new(), |text, line| text + &line + "\n")
}

/// Returns the commands of one step.
fn commands(step: &Step) -> Vec<String> {
    let adds = matches!(step, Step::Add(_));
    let removes = matches!(step, Step::Remove(_));
    let by_step = |a: &'static str, c: &'static str, r: &'static str| match step {
        Step::Add(_) => a,
        Step::Change(_) => c,
        Step::Remove(_) => r,
    };
    match step.item() {
        Item::Module { name } => vec![format!("modprobe {}", quote(name))],
        Item::Link { name, kind, mtu } => {
            let name = quote(name);
            let mtu = mtu.map_or(String::new(), |mtu| format!(" mtu {mtu}"));
            let mut lines = Vec::new();
            if adds {
                let kind = quote(kind.as_str());
                lines.push(format!(
                    "ip link show {name} >/dev/null 2>&1 || ip link add {name} type {kind}"
                ));
            }
            lines.push(format!("ip link set {name}{mtu} up"));
            lines
        }
        Item::Hairpin { port } => vec![format!("bridge link set dev {} hairpin on", quote(port))],
        Item::Sysctl { name, value } => {
            vec![format!("sysctl -w {}", quote(&format!("{name}={value}")))]
        }
        Item::Table { skeleton, .. } => {
            let rules = nftables::script(skeleton.unwrap_or_default(), adds);
            vec![format!("nft -f - <<'END'\n{rules}END")]
        }
        Item::Element { set, value } => {
            let verb = if removes { "delete" } else { "add" };
            let name = set.name(value.family());
            let value = element(*set, value);
            vec![format!("nft '{verb} element inet {NFT_TABLE} {name} {{ {value} }}'")]
        }
        Item::Accept { chain } => vec![accept(chain, removes)],
        Item::Timeout { of, seconds } => {
            // It takes three numbers; 0 leaves a timeout unchanged.
            let numbers = Timeout::ALL.map(|t| if t == *of { *seconds } else { 0 });
            let numbers = numbers.map(|n| n.to_string()).join(" ");
            vec![format!("ipvsadm --set {numbers}")]
        }
        Item::Service { at, .. } if removes => vec![format!("ipvsadm -D {}", service(at))],
        Item::Service { at, scheduler, flags, persistence } => {
            let mut line = format!(
                "ipvsadm {} {} -s {}",
                by_step("-A", "-E", ""),
                service(at),
                quote(scheduler)
            );
            if *persistence != 0 {
                line += &format!(" -p {persistence}");
            }
            let named = [(0x8, "flag-1"), (0x10, "flag-2"), (0x20, "flag-3")];
            let set: Vec<&str> =
                named.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
            if !set.is_empty() {
                line += &format!(" -b {}", set.join(","));
            }
            vec![line]
        }
        Item::Real { of, addr, port, weight, forward } => {
            let real = SocketAddr::new(*addr, *port);
            let line = format!("ipvsadm {} {} -r {real}", by_step("-a", "-e", "-d"), service(of));
            let method = match forward {
                Forward::Masq => "-m",
                Forward::Tunnel => "-i",
                _ => "-g",
            };
            vec![if removes { line } else { format!("{line} {method} -w {weight}") }]
        }
        Item::Addr { link, addr } => {
            let options = match addr.addr() {
                IpAddr::V4(_) => " scope link",
                IpAddr::V6(_) => " nodad",
            };
            let (verb, options) = if removes { ("del", "") } else { ("add", options) };
            vec![format!("{} addr {verb} {addr} dev {}{options}", ip(addr.addr()), quote(link))]
        }
        Item::Route { .. } => route(step),
        Item::File { path, text } => {
            let new = quote(&format!("{path}.new"));
            let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
            vec![
                format!("mkdir -p {}", quote(folder)),
                format!("printf %s {} >{new} && mv {new} {}", quote(text), quote(path)),
            ]
        }
    }
}

/// Returns the command that adds or removes an accept rule. A rule in a chain of iptables is added
/// by iptables, which would not recognize a rule that nft added.
fn accept(chain: &str, removes: bool) -> String {
    if let Some((program, name)) = iptables(chain) {
        let verb = if removes { "-D" } else { "-I" };
        let comment = format!("-m comment --comment {NFT_TABLE}");
        return format!("{program} {verb} {name} {} {comment} -j ACCEPT", nftables::PASSING_MATCH);
    }
    let chain: Vec<String> = chain.split(' ').map(quote).collect();
    let chain = chain.join(" ");
    if removes {
        return format!(
            "nft -a list chain {chain} | sed -n 's/.*comment \"{NFT_TABLE}\" # handle //p' | \
             while read -r handle; do nft delete rule {chain} handle \"$handle\"; done"
        );
    }
    let (pass, mask) = nftables::PASSING;
    format!(
        "nft insert rule {chain} meta mark and {mask:#x} == {pass:#x} accept comment \\\"{NFT_TABLE}\\\""
    )
}

fn route(step: &Step) -> Vec<String> {
    let Item::Route { table, to, via, src } = step.item() else { return Vec::new() };
    let ip = ip(to.addr());
    let local = *table == TABLE_LOCAL;
    let (kind, table) = match *table {
        TABLE_LOCAL => ("local ", " table local".to_owned()),
        crate::model::items::TABLE_MAIN => ("", String::new()),
        table => ("", format!(" table {table}")),
    };
    // The list of several gateways must end the command.
    let (mut path, hops) = match via {
        None => (String::new(), String::new()),
        Some(one @ NextHops::One(_)) => (format!(" {one}"), String::new()),
        Some(NextHops::Device(hop)) => {
            let dev = NextHops::device(&quote(&hop.dev), hop.via);
            (format!(" {dev}"), String::new())
        }
        Some(many @ NextHops::Many(_)) => (String::new(), format!(" {many}")),
    };
    if local {
        path += &format!(" dev {DUMMY}");
    }
    let source = src.map_or(String::new(), |src| format!(" src {src}"));
    match step {
        Step::Remove(_) => {
            let protocol = if local { "" } else { " proto 17" };
            vec![format!("{ip} route del {kind}{to}{path}{source}{table}{protocol}{hops}")]
        }
        // The kernel's own local route is replaced (IPv4), or deleted once ours is there (IPv6).
        _ if local => {
            let scope = if to.addr().is_ipv4() { " scope host" } else { " metric 1024" };
            let mut lines =
                vec![format!("{ip} route replace {kind}{to}{path}{source}{table} proto 17{scope}")];
            if to.addr().is_ipv6() {
                lines.push(format!("{ip} route del {kind}{to}{path}{table} proto kernel"));
            }
            lines
        }
        Step::Add(_) | Step::Change(_) => {
            let verb = if matches!(step, Step::Add(_)) { "add" } else { "replace" };
            vec![format!("{ip} route {verb} {to}{path}{source}{table} proto 17{hops}")]
        }
    }
}

/// Returns the `ip` command for the family of an address.
fn ip(addr: IpAddr) -> &'static str {
    if addr.is_ipv4() { "ip" } else { "ip -6" }
}

/// Returns the options by which ipvsadm(8) identifies a virtual service.
fn service(at: &ServiceKey) -> String {
    let at = match at {
        ServiceKey::Address(at) => at,
        ServiceKey::FwMark { mark, ipv4 } => {
            return format!("-f {mark}{}", if *ipv4 { "" } else { " -6" });
        }
    };
    let protocol = match at.protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    };
    format!("{protocol} {}", SocketAddr::new(at.addr, at.port))
}

/// Returns an element in nft syntax.
fn element(set: Set, value: &SetElement) -> String {
    let dotted = |at: &ServiceAddr| format!("{} . {} . {}", at.addr, at.protocol, at.port);
    match value {
        SetElement::Service(at) => dotted(at),
        SetElement::Marked { at, mark } => format!("{} : {mark:#x}", dotted(at)),
        SetElement::Ranged { at, from } => format!("{} . {from}", dotted(at)),
        SetElement::Addr(addr) => vec![addr.to_string(); set.key().len()].join(" . "),
        SetElement::Net(net) => net.to_string(),
        SetElement::Port { port, .. } => port.to_string(),
    }
}

/// Returns a word for the shell, in single quotes unless it has only characters without a meaning
/// in a shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._:=@%+,-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;

    #[test]
    fn several_gateways_end_the_ip_route_command() {
        let hops = ["192.0.2.13", "192.0.2.12"].map(|hop| hop.parse().unwrap());
        let (table, via) = (crate::model::items::TABLE_MAIN, NextHops::new(hops));
        let to = "10.244.1.0/24".parse().unwrap();
        let route = Item::Route { table, to, via, src: None };
        let tail = "10.244.1.0/24 proto 17 nexthop via 192.0.2.12 nexthop via 192.0.2.13\n";
        for (step, verb) in [
            (Step::Add(&route), "add"),
            (Step::Change(&route), "replace"),
            (Step::Remove(&route), "del"),
        ] {
            assert_eq!(script(&[step]), format!("ip route {verb} {tail}"));
        }
    }

    #[test]
    fn a_device_of_a_route_is_named_in_each_command() {
        for (via, path) in [
            (None, "dev kube-ipip"),
            (Some([192, 0, 2, 12].into()), "via 192.0.2.12 dev kube-ipip onlink"),
        ] {
            let (table, to) = (77, "10.244.1.0/24".parse().unwrap());
            let via = Some(NextHops::device("kube-ipip", via));
            let route = Item::Route { table, to, via, src: Some([10, 244, 0, 1].into()) };
            let tail = format!("10.244.1.0/24 {path} src 10.244.0.1 table 77 proto 17\n");
            for (step, verb) in [
                (Step::Add(&route), "add"),
                (Step::Change(&route), "replace"),
                (Step::Remove(&route), "del"),
            ] {
                assert_eq!(script(&[step]), format!("ip route {verb} {tail}"));
            }
            let text = format!("+ route 10.244.1.0/24 {path} src 10.244.0.1 table 77");
            assert_eq!(Step::Add(&route).to_string(), text);
        }
    }

    #[test]
    fn a_quoted_word_is_passed_unchanged_by_the_shell() {
        for word in ["", "a b", "$(reboot)", "it's", "a\nb", "`x`", ";", "*"] {
            let out = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quote(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), word);
        }
    }

    #[test]
    fn setting_one_timeout_leaves_the_others_unchanged() {
        let items = [(Timeout::TcpFin, 60), (Timeout::Udp, 30)];
        let items = items.map(|(of, seconds)| Item::Timeout { of, seconds });
        assert_eq!(
            script(&items.each_ref().map(Step::Change)),
            "ipvsadm --set 0 60 0\nipvsadm --set 0 0 30\n"
        );
    }

    #[test]
    fn a_virtual_service_and_its_real_server_become_ipvsadm_commands() {
        let of =
            ServiceAddr { addr: "fd96::10".parse().unwrap(), protocol: Protocol::Sctp, port: 80 };
        let of = ServiceKey::from(of);
        let service = Item::Service { at: of, scheduler: "rr".into(), flags: 0, persistence: 60 };
        let real = Item::Real {
            of,
            addr: "fd44::1".parse().unwrap(),
            port: 8080,
            weight: 1,
            forward: Forward::Masq,
        };
        assert_eq!(
            script(&[Step::Add(&service), Step::Remove(&real), Step::Add(&real)]),
            "ipvsadm -A --sctp-service [fd96::10]:80 -s rr -p 60\n\
             ipvsadm -d --sctp-service [fd96::10]:80 -r [fd44::1]:8080\n\
             ipvsadm -a --sctp-service [fd96::10]:80 -r [fd44::1]:8080 -m -w 1\n"
        );
    }

    fn at(addr: &str, protocol: Protocol, port: u16) -> ServiceAddr {
        ServiceAddr { addr: addr.parse().unwrap(), protocol, port }
    }

    #[test]
    fn an_element_is_added_and_deleted_in_nft_syntax() {
        let addr = |addr: &str| SetElement::Addr(addr.parse().unwrap());
        let net = |net: &str| SetElement::Net(net.parse().unwrap());
        for (set, value, text) in [
            (
                Set::Services,
                SetElement::Service(at("10.96.0.10", Protocol::Tcp, 80)),
                "services4 { 10.96.0.10 . tcp . 80 }",
            ),
            (
                Set::DropOutside,
                SetElement::Service(at("fd96::10", Protocol::Sctp, 80)),
                "drop-outside6 { fd96::10 . sctp . 80 }",
            ),
            (
                Set::Outside,
                SetElement::Marked {
                    at: at("192.0.2.11", Protocol::Udp, 30053),
                    mark: 0x4b1a_0007,
                },
                "outside4 { 192.0.2.11 . udp . 30053 : 0x4b1a0007 }",
            ),
            (
                Set::Ranges,
                SetElement::Ranged {
                    at: at("203.0.113.9", Protocol::Tcp, 80),
                    from: "10.0.0.0/8".parse().unwrap(),
                },
                "ranges4 { 203.0.113.9 . tcp . 80 . 10.0.0.0/8 }",
            ),
            (Set::Vips, addr("fd96::10"), "vips6 { fd96::10 }"),
            (Set::Loops, addr("10.244.0.2"), "loops4 { 10.244.0.2 . 10.244.0.2 }"),
            (Set::OwnPods, net("10.244.0.0/24"), "own-pods4 { 10.244.0.0/24 }"),
            (Set::TcpPorts, SetElement::port(30080, Family::Ipv4), "tcp-ports4 { 30080 }"),
            (Set::UdpPorts, SetElement::port(30053, Family::Ipv6), "udp-ports6 { 30053 }"),
        ] {
            let item = Item::Element { set, value };
            for (step, verb) in [
                (Step::Add(&item), "add"),
                (Step::Change(&item), "add"),
                (Step::Remove(&item), "delete"),
            ] {
                assert_eq!(script(&[step]), format!("nft '{verb} element inet kinglet {text}'\n"));
            }
        }
    }

    #[test]
    fn a_real_server_keeps_its_forwarding_method() {
        let of = ServiceKey::from(at("10.96.0.10", Protocol::Udp, 53));
        for (forward, method) in [
            (Forward::Masq, "-m"),
            (Forward::Tunnel, "-i"),
            (Forward::Route, "-g"),
            (Forward::Local, "-g"),
            (Forward::Bypass, "-g"),
        ] {
            let real =
                Item::Real { of, addr: [10, 244, 1, 2].into(), port: 5353, weight: 0, forward };
            let server = "-u 10.96.0.10:53 -r 10.244.1.2:5353";
            assert_eq!(
                script(&[Step::Add(&real), Step::Change(&real), Step::Remove(&real)]),
                format!(
                    "ipvsadm -a {server} {method} -w 0\n\
                     ipvsadm -e {server} {method} -w 0\n\
                     ipvsadm -d {server}\n"
                ),
                "{forward:?}"
            );
        }
    }

    #[test]
    fn a_virtual_service_is_added_edited_and_deleted_with_its_scheduler_flags() {
        for (service_at, options) in [
            (ServiceKey::from(at("10.96.0.10", Protocol::Tcp, 80)), "-t 10.96.0.10:80"),
            (ServiceKey::FwMark { mark: 0x4b1a_0007, ipv4: true }, "-f 1259995143"),
            (ServiceKey::FwMark { mark: 0x4b1a_0007, ipv4: false }, "-f 1259995143 -6"),
        ] {
            let service = Item::Service {
                at: service_at,
                scheduler: "mh".into(),
                flags: 0x18,
                persistence: 0,
            };
            assert_eq!(
                script(&[Step::Add(&service), Step::Change(&service), Step::Remove(&service)]),
                format!(
                    "ipvsadm -A {options} -s mh -b flag-1,flag-2\n\
                     ipvsadm -E {options} -s mh -b flag-1,flag-2\n\
                     ipvsadm -D {options}\n"
                )
            );
        }
    }

    #[test]
    fn a_virtual_address_and_its_local_route_are_added_and_deleted() {
        for (addr, src, added, removed) in [
            (
                "10.96.0.10/32",
                "192.0.2.11",
                "ip addr add 10.96.0.10/32 dev kube-dummy-if scope link\n\
                 ip route replace local 10.96.0.10/32 dev kube-dummy-if src 192.0.2.11 table local proto 17 scope host\n",
                "ip route del local 10.96.0.10/32 dev kube-dummy-if src 192.0.2.11 table local\n\
                 ip addr del 10.96.0.10/32 dev kube-dummy-if\n",
            ),
            (
                "fd96::10/128",
                "fd77::11",
                "ip -6 addr add fd96::10/128 dev kube-dummy-if nodad\n\
                 ip -6 route replace local fd96::10/128 dev kube-dummy-if src fd77::11 table local proto 17 metric 1024\n\
                 ip -6 route del local fd96::10/128 dev kube-dummy-if table local proto kernel\n",
                "ip -6 route del local fd96::10/128 dev kube-dummy-if src fd77::11 table local\n\
                 ip -6 addr del fd96::10/128 dev kube-dummy-if\n",
            ),
        ] {
            let to = addr.parse().unwrap();
            let src = Some(src.parse().unwrap());
            let addr = Item::Addr { link: DUMMY.into(), addr: to };
            let route = Item::Route { table: TABLE_LOCAL, to, via: None, src };
            assert_eq!(script(&[Step::Add(&addr), Step::Add(&route)]), added);
            assert_eq!(script(&[Step::Remove(&route), Step::Remove(&addr)]), removed);
        }
    }
}
