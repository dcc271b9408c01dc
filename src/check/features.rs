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
