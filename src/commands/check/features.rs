//! The kernel options that kinglet needs: one table row for each option, with the module that it builds.
//! `kinglet check` reads the table, and a test generates boards/kernel.config from it.

/// The part of the job that needs a kernel option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeaturePart {
    Router,
    Services,
    Both,
}

/// A kernel option.
#[derive(Debug)]
pub(crate) struct Feature {
    /// The name in the kernel configuration, without `CONFIG_`.
    pub option: &'static str,
    /// The module that the option builds; empty if the option is a part of another module.
    pub module: &'static str,
    /// The part of the job that needs the option.
    pub part: FeaturePart,
    /// True if that part cannot work without the option.
    pub required: bool,
    /// The purpose of the option, or the loss if it is missing.
    pub purpose: &'static str,
}

const fn row(
    option: &'static str,
    module: &'static str,
    part: FeaturePart,
    required: bool,
    purpose: &'static str,
) -> Feature {
    Feature { option, module, part, required, purpose }
}

/// The options, in the order of the report.
#[rustfmt::skip] // one row, one line
pub(crate) const FEATURES: [Feature; 20] = [
    row("BRIDGE", "bridge", FeaturePart::Router, true, "the bridge of the pods"),
    row("VETH", "veth", FeaturePart::Router, true, "the pods' links"),
    row("BRIDGE_NETFILTER", "br_netfilter", FeaturePart::Services, false, "source addresses from pod to pod on one node"),
    row("DUMMY", "dummy", FeaturePart::Services, true, "the addresses of Services"),
    row("IP_VS", "ip_vs", FeaturePart::Services, true, "Services"),
    row("IP_VS_IPV6", "", FeaturePart::Services, false, "Services with IPv6 addresses"),
    row("IP_VS_PROTO_TCP", "", FeaturePart::Services, true, "TCP Services"),
    row("IP_VS_PROTO_UDP", "", FeaturePart::Services, true, "UDP Services, DNS first"),
    row("IP_VS_PROTO_SCTP", "", FeaturePart::Services, false, "SCTP Services"),
    row("IP_VS_NFCT", "", FeaturePart::Services, true, "masquerading of Services"),
    row("IP_VS_RR", "ip_vs_rr", FeaturePart::Services, true, "round robin"),
    row("IP_VS_MH", "ip_vs_mh", FeaturePart::Services, false, "affinity with a Local policy"),
    row("NF_CT_NETLINK", "nf_conntrack_netlink", FeaturePart::Services, false, "removal of UDP flows to endpoints that are gone"),
    row("NF_TABLES", "nf_tables", FeaturePart::Both, true, "masquerading and the guard"),
    row("NF_TABLES_INET", "", FeaturePart::Both, true, "one table for both families"),
    row("NFT_CT", "nft_ct", FeaturePart::Both, true, "the table's rules"),
    row("NFT_NAT", "nft_chain_nat", FeaturePart::Both, true, "the table's rules"),
    row("NFT_MASQ", "nft_masq", FeaturePart::Both, true, "masquerading"),
    row("NFT_FIB_INET", "nft_fib_inet", FeaturePart::Services, true, "the guard"),
    row("NFT_REJECT_INET", "nft_reject_inet", FeaturePart::Services, true, "rejecting connections to Services without endpoints"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The options that [`FEATURES`] depend on (`depends on`, or options that select one without a prompt),
    /// and options that `check` need not test because a kernel that runs a kubelet has them.
    const DEPENDENCIES: [(&str, &str); 27] = [
        ("NET", "all of it"),
        ("UNIX", "the lock and the status socket"),
        ("INET", "IPv4"),
        ("IPV6", "NF_TABLES_INET and NFT_FIB_INET, even if IPv6 is not used"),
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
        ("CRYPTO_CRC32C", "IP_VS, NF_TABLES: as a module, only modprobe finds it"),
        ("PROC_FS", "the files that kinglet reads below /proc"),
        ("SYSCTL", "PROC_SYSCTL"),
        ("PROC_SYSCTL", "settings"),
        ("FUTEX", "threads"),
        ("EPOLL", "the daemon"),
        ("EVENTFD", "the daemon"),
        ("TIMERFD", "the daemon"),
        ("SIGNALFD", "the daemon"),
        ("MULTIUSER", "dropping capabilities that are not needed"),
    ];

    /// The options that only some nodes use.
    const OPTIONAL: [(&str, &str); 16] = [
        ("TCP_MD5SIG", "--peer-router-passwords"),
        ("IP_ADVANCED_ROUTER", "IP_ROUTE_MULTIPATH"),
        ("IP_ROUTE_MULTIPATH", "IPv4 routes of several gateways, learned by BGP"),
        ("NETFILTER_XTABLES", "NFT_COMPAT, NETFILTER_XT_MARK"),
        (
            "NFT_COMPAT",
            "nodes with Docker, ufw or another user of iptables-nft that drops by policy",
        ),
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
# The kernel options that kinglet needs (Linux 5.10 or later). In the kernel's source tree, to add them to the board's own:
#   scripts/kconfig/merge_config.sh .config …/boards/kernel.config
# `m` works as well as `y` if the modules and their modules.dep are under /lib/modules: kinglet loads the modules itself.
# `kinglet check` lists the options that a running kernel lacks.
";

    /// Returns the text of boards/kernel.config.
    fn fragment() -> String {
        let mut text = HEAD.to_owned();
        let mut part = |head: &str, rows: &[(&str, String)]| {
            text += &format!("\n## {head}\n");
            for (option, why) in rows {
                text += &format!("\n# {why}\nCONFIG_{option}=y\n");
            }
        };
        let owned = |rows: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
            rows.iter().map(|(option, why)| (*option, (*why).to_owned())).collect()
        };
        let of = |part: FeaturePart| -> Vec<(&'static str, String)> {
            let text = |f: &Feature| {
                if f.required { f.purpose.into() } else { format!("optional: {}", f.purpose) }
            };
            FEATURES.iter().filter(|f| f.part == part).map(|f| (f.option, text(f))).collect()
        };
        part(
            "dependencies of the options below, each with the options that need it",
            &owned(&DEPENDENCIES),
        );
        part("the pods' network (--run-router)", &of(FeaturePart::Router));
        part("Services (--run-service-proxy)", &of(FeaturePart::Services));
        part("both", &of(FeaturePart::Both));
        part("optional, and not tested by `kinglet check`", &owned(&OPTIONAL));
        text
    }

    #[test]
    fn boards_kernel_config_matches_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/boards/kernel.config");
        if std::env::var_os("KINGLET_WRITE").is_some() {
            std::fs::write(path, fragment()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == fragment(),
            "boards/kernel.config differs from this table; to write it again: \
             KINGLET_WRITE=1 cargo test --lib kernel_config"
        );
    }

    #[test]
    fn no_option_occurs_twice() {
        let text = fragment();
        let mut options: Vec<&str> = text.lines().filter(|l| l.starts_with("CONFIG_")).collect();
        let all = options.len();
        options.sort_unstable();
        options.dedup();
        assert_eq!(
            (options.len(), all),
            (DEPENDENCIES.len() + OPTIONAL.len() + FEATURES.len(), all)
        );
    }
}
