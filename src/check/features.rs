//! What kinglet needs of a kernel, as a table: one row per option, with the module that it makes.

/// Which part of the job needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    Router,
    Services,
    Both,
}

/// One option of the kernel.
#[derive(Debug)]
pub struct Feature {
    /// Its name in the kernel's configuration, after `CONFIG_`.
    pub option: &'static str,
    /// The module that it makes; empty: it is a part of another.
    pub module: &'static str,
    /// Which part of the job needs it.
    pub part: Part,
    /// Whether that part can't be done without it.
    pub must: bool,
    /// What it is for, or what is worse without it.
    pub does: &'static str,
}

const fn row(
    option: &'static str,
    module: &'static str,
    part: Part,
    must: bool,
    does: &'static str,
) -> Feature {
    Feature { option, module, part, must, does }
}

/// All of them.
#[rustfmt::skip] // one row, one line
pub const FEATURES: [Feature; 20] = [
    row("BRIDGE", "bridge", Part::Router, true, "the bridge of the pods"),
    row("VETH", "veth", Part::Router, true, "the pods' links"),
    row("BRIDGE_NETFILTER", "br_netfilter", Part::Services, false, "source addresses from pod to pod on one node"),
    row("DUMMY", "dummy", Part::Services, true, "the addresses of Services"),
    row("IP_VS", "ip_vs", Part::Services, true, "Services"),
    row("IP_VS_IPV6", "", Part::Services, false, "Services with IPv6 addresses"),
    row("IP_VS_PROTO_TCP", "", Part::Services, true, "TCP Services"),
    row("IP_VS_PROTO_UDP", "", Part::Services, true, "UDP Services, DNS first"),
    row("IP_VS_PROTO_SCTP", "", Part::Services, false, "SCTP Services"),
    row("IP_VS_NFCT", "", Part::Services, true, "masquerading of Services"),
    row("IP_VS_RR", "ip_vs_rr", Part::Services, true, "round robin"),
    row("IP_VS_MH", "ip_vs_mh", Part::Services, false, "affinity with a Local policy"),
    row("NF_CT_NETLINK", "nf_conntrack_netlink", Part::Services, false, "removal of UDP flows to endpoints that are gone"),
    row("NF_TABLES", "nf_tables", Part::Both, true, "masquerading and the guard"),
    row("NF_TABLES_INET", "", Part::Both, true, "one table for both families"),
    row("NFT_CT", "nft_ct", Part::Both, true, "the table's rules"),
    row("NFT_NAT", "nft_chain_nat", Part::Both, true, "the table's rules"),
    row("NFT_MASQ", "nft_masq", Part::Both, true, "masquerading"),
    row("NFT_FIB_INET", "nft_fib_inet", Part::Services, true, "the guard"),
    row("NFT_REJECT_INET", "nft_reject_inet", Part::Services, true, "rejecting where there are no endpoints"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What those stand on (`depends on`, or what makes an option that can't be asked for itself), and what
    /// `check` need not ask about: a kernel that runs a kubelet has it.
    const BELOW: [(&str, &str); 27] = [
        ("NET", "all of it"),
        ("UNIX", "the lock and the status socket"),
        ("INET", "IPv4"),
        ("IPV6", "NF_TABLES_INET and NFT_FIB_INET, even where nobody uses IPv6"),
        ("IPV6_MULTIPLE_TABLES", "Services with IPv6 addresses: their routes are in table local"),
        ("NAMESPACES", "NET_NS"),
        ("NET_NS", "the pods' own networks"),
        ("NETDEVICES", "DUMMY, VETH"),
        ("NET_CORE", "DUMMY, VETH"),
        ("NETFILTER", "IP_VS, NF_TABLES"),
        ("NETFILTER_ADVANCED", "BRIDGE_NETFILTER"),
        ("NF_CONNTRACK", "IP_VS_NFCT, NFT_CT, NFT_NAT"),
        ("NF_NAT", "NFT_MASQ"),
        ("NFT_REJECT", "makes NFT_REJECT_INET"),
        ("NFT_FIB_IPV4", "NFT_FIB_INET"),
        ("NFT_FIB_IPV6", "NFT_FIB_INET"),
        ("CRYPTO", "CRYPTO_CRC32C"),
        ("CRYPTO_CRC32C", "IP_VS, NF_TABLES: where it is a module, it is only found by modprobe"),
        ("PROC_FS", "what kinglet reads of the kernel"),
        ("SYSCTL", "PROC_SYSCTL"),
        ("PROC_SYSCTL", "settings"),
        ("FUTEX", "threads"),
        ("EPOLL", "the daemon"),
        ("EVENTFD", "the daemon"),
        ("TIMERFD", "the daemon"),
        ("SIGNALFD", "the daemon"),
        ("MULTIUSER", "giving up rights that are not needed"),
    ];

    /// What some nodes use.
    const MORE: [(&str, &str); 16] = [
        ("TCP_MD5SIG", "--peer-router-passwords"),
        ("IP_ADVANCED_ROUTER", "IP_ROUTE_MULTIPATH"),
        ("IP_ROUTE_MULTIPATH", "IPv4 routes of several gateways, learned by BGP"),
        ("NETFILTER_XTABLES", "NFT_COMPAT, NETFILTER_XT_MARK"),
        ("NFT_COMPAT", "beside Docker, ufw or another user of iptables-nft that drops"),
        ("NETFILTER_XT_MARK", "the same"),
        ("IP_VS_WRR", "kube-router.io/service.scheduler: wrr; the same for those below"),
        ("IP_VS_LC", "lc"),
        ("IP_VS_WLC", "wlc"),
        ("IP_VS_LBLC", "lblc"),
        ("IP_VS_LBLCR", "lblcr"),
        ("IP_VS_DH", "dh"),
        ("IP_VS_SH", "sh"),
        ("IP_VS_SED", "sed"),
        ("IP_VS_NQ", "nq"),
        ("IP_VS_FO", "fo"),
    ];

    const HEAD: &str = "\
# What kinglet needs of a kernel, 5.10 or later. In the kernel's source, on top of the board's own:
#   scripts/kconfig/merge_config.sh .config …/boards/kernel.config
# `m` does as well as `y` where the modules and their modules.dep are under /lib/modules: kinglet loads
# them itself. `kinglet check` tells what a running kernel lacks.
";

    /// boards/kernel.config
    fn fragment() -> String {
        let mut text = HEAD.to_owned();
        let mut part = |head: &str, rows: &[(&str, String)]| {
            text += &format!("\n## {head}\n");
            for (option, why) in rows {
                text += &format!("\n# {why}\nCONFIG_{option}=y\n");
            }
        };
        let below = |rows: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
            rows.iter().map(|(option, why)| (*option, (*why).to_owned())).collect()
        };
        let of = |part: Part| -> Vec<(&'static str, String)> {
            let text =
                |f: &Feature| if f.must { f.does.into() } else { format!("optional: {}", f.does) };
            FEATURES.iter().filter(|f| f.part == part).map(|f| (f.option, text(f))).collect()
        };
        part("what the rest stands on; each with what depends on it", &below(&BELOW));
        part("the pods' network (--run-router)", &of(Part::Router));
        part("Services (--run-service-proxy)", &of(Part::Services));
        part("both", &of(Part::Both));
        part("optional, and not asked for by `kinglet check`", &below(&MORE));
        text
    }

    #[test]
    fn the_kernel_options_of_boards_are_those_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/boards/kernel.config");
        if std::env::var_os("KINGLET_WRITE").is_some() {
            std::fs::write(path, fragment()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == fragment(),
            "boards/kernel.config is not what this table says; to make it anew: \
             KINGLET_WRITE=1 cargo test --lib kernel_options"
        );
    }

    #[test]
    fn no_option_is_named_twice() {
        let text = fragment();
        let mut options: Vec<&str> = text.lines().filter(|l| l.starts_with("CONFIG_")).collect();
        let all = options.len();
        options.sort_unstable();
        options.dedup();
        assert_eq!((options.len(), all), (BELOW.len() + MORE.len() + FEATURES.len(), all));
    }
}
