//! What another proxy or another network left on this node, and the commands that take it away. Pure.

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Chains of nftables: family (`ip`, `ip6`, `inet`…), table, chain.
    pub chains: Vec<(&'static str, String, String)>,
    /// Chains of the older iptables.
    pub legacy: Vec<String>,
    /// The names of all links.
    pub links: Vec<String>,
    /// CNI configurations that the runtime prefers to ours.
    pub conflists: Vec<String>,
    /// Whether flannel wrote its subnet down (/run/flannel/subnet.env).
    pub flannel: bool,
    /// Whether k3s was installed here.
    pub k3s: bool,
    /// Whether something listens where kube-proxy does (10256).
    pub proxy: bool,
}

const IPTABLES: &str = "iptablesKIND-save | grep -v PREFIX | iptablesKIND-restore; ip6tablesKIND-save \
                        | grep -v PREFIX | ip6tablesKIND-restore";

impl Left {
    /// One line for each thing, with what removes it.
    pub fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        let stop = if self.k3s {
            "start k3s with --disable-kube-proxy"
        } else {
            "kubectl -n kube-system delete daemonset kube-proxy"
        };
        if self.proxy {
            told.push(format!("a kube-proxy seems to run (port 10256): {stop}"));
        }
        let chains: Vec<&str> = self.chains.iter().map(|(.., name)| &**name).collect();
        let legacy: Vec<&str> = self.legacy.iter().map(|name| &**name).collect();
        for (kind, chains) in [("", chains), ("-legacy", legacy)] {
            self.rules(kind, &chains, stop, &mut told);
        }
        let mut tables: Vec<(&str, &str)> = self
            .chains
            .iter()
            .map(|(family, table, _)| (*family, &**table))
            .filter(|(_, table)| *table == "kube-proxy" || table.starts_with("kube-router-filter"))
            .collect();
        tables.dedup();
        for (family, table) in tables {
            let stop = if table == "kube-proxy" { stop } else { "stop kube-router" };
            told.push(format!(
                "the nftables table {family} {table}: {stop}; then nft delete table {family} {table}"
            ));
        }
        self.links(&mut told);
        for name in &self.conflists {
            told.push(format!(
                "the CNI configuration {name} sorts before ours, and the runtime takes the first: \
                 remove it"
            ));
        }
        told
    }

    /// What the chains of an iptables tell of, the newer one or the one called -legacy.
    fn rules(&self, kind: &str, chains: &[&str], stop: &str, told: &mut Vec<String>) {
        let chain = |starts: &[&str]| {
            chains.iter().any(|name| starts.iter().any(|start| name.starts_with(start)))
        };
        let rules = |prefix: &str| IPTABLES.replace("KIND", kind).replace("PREFIX", prefix);
        // The kubelet has chains of its own (KUBE-KUBELET-CANARY, KUBE-FIREWALL), which stay.
        if chain(&["KUBE-SERVICES", "KUBE-SVC-", "KUBE-NODEPORT", "KUBE-PROXY-"]) {
            told.push(format!(
                "iptables{kind} rules of kube-proxy: {stop}; then kube-proxy --cleanup, or {}",
                rules("KUBE-")
            ));
        }
        if chain(&["KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-"]) {
            let restart =
                if self.k3s { "start k3s with --disable-network-policy; then " } else { "" };
            told.push(format!(
                "iptables{kind} rules of kube-router: {restart}kube-router --cleanup-config, or {}",
                rules("-e KUBE-ROUTER -e KUBE-POD-FW -e KUBE-NWPLCY -e kube-router")
            ));
        }
        if chain(&["FLANNEL-"]) {
            told.push(format!("iptables{kind} rules of flannel: {}", rules("-i FLANNEL")));
        }
    }

    fn links(&self, told: &mut Vec<String>) {
        for (name, owner, more) in [
            ("kube-ipvs0", "kube-proxy (IPVS)", "; ipvsadm --clear"),
            ("flannel.1", "flannel", ""),
            ("flannel-wg", "flannel", ""),
            ("cni0", "the bridge plugin of another network (flannel's)", ""),
            ("cilium_host", "Cilium", ""),
            ("vxlan.calico", "Calico", ""),
            ("weave", "Weave", ""),
        ] {
            if self.links.iter().any(|link| link == name) {
                told.push(format!("the link {name} of {owner}: ip link delete {name}{more}"));
            }
        }
        let tunnels = || self.links.iter().filter(|link| link.starts_with("tun-"));
        if let Some(first) = tunnels().next() {
            let count = tunnels().count();
            told.push(format!(
                "{count} tunnels of kube-router, whose routes are left as they are: ip link delete \
                 {first}, and so on"
            ));
        }
        if self.flannel {
            let stop = if self.k3s { "start k3s with --flannel-backend=none; then " } else { "" };
            told.push(format!("flannel's /run/flannel/subnet.env: {stop}rm -r /run/flannel"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: &'static str, table: &str, chain: &str) -> (&'static str, String, String) {
        (family, table.into(), chain.into())
    }

    #[test]
    fn a_clean_node_and_one_with_a_kubelet_alone_have_nothing_left() {
        let chains = vec![
            chain("ip", "mangle", "KUBE-KUBELET-CANARY"),
            chain("ip", "filter", "KUBE-FIREWALL"),
            chain("inet", "kinglet", "input"),
        ];
        let links = vec!["eth0".into(), "kube-bridge".into(), "kube-dummy-if".into()];
        assert_eq!(Left { chains, links, ..Left::default() }.told(), Vec::<String>::new());
    }

    #[test]
    fn each_proxy_is_named_once_with_what_removes_it() {
        let left = Left {
            chains: vec![
                chain("ip", "nat", "KUBE-SERVICES"),
                chain("ip", "nat", "KUBE-SVC-ABC"),
                chain("ip", "filter", "KUBE-ROUTER-INPUT"),
                chain("ip", "kube-proxy", "services"),
                chain("ip", "kube-proxy", "nat-output"),
                chain("ip6", "kube-proxy", "services"),
            ],
            legacy: vec!["DOCKER".into(), "KUBE-SVC-ABC".into()],
            links: vec!["kube-ipvs0".into(), "tun-0123456789a".into()],
            conflists: vec!["05-cilium.conflist".into()],
            proxy: true,
            ..Left::default()
        };
        let told = left.told();
        let heads: Vec<&str> = told.iter().map(|l| l.split(": ").next().unwrap()).collect();
        assert_eq!(
            heads,
            [
                "a kube-proxy seems to run (port 10256)",
                "iptables rules of kube-proxy",
                "iptables rules of kube-router",
                "iptables-legacy rules of kube-proxy",
                "the nftables table ip kube-proxy",
                "the nftables table ip6 kube-proxy",
                "the link kube-ipvs0 of kube-proxy (IPVS)",
                "1 tunnels of kube-router, whose routes are left as they are",
                "the CNI configuration 05-cilium.conflist sorts before ours, and the runtime takes the first",
            ]
        );
        assert!(told[1].contains("delete daemonset kube-proxy; then kube-proxy --cleanup, or "));
        assert!(
            told[3].contains("iptables-legacy-save | grep -v KUBE- | iptables-legacy-restore; ip6")
        );
        assert!(told[4].ends_with("nft delete table ip kube-proxy"));
    }

    #[test]
    fn k3s_is_told_how_to_leave_its_own_network_out() {
        let left = Left {
            chains: vec![
                chain("ip", "nat", "KUBE-SERVICES"),
                chain("ip", "filter", "KUBE-NWPLCY-DEFAULT"),
                chain("ip", "nat", "FLANNEL-POSTRTG"),
            ],
            links: vec!["flannel.1".into(), "cni0".into()],
            flannel: true,
            k3s: true,
            ..Left::default()
        };
        let told = left.told().join("\n");
        for flag in ["--disable-kube-proxy", "--disable-network-policy", "--flannel-backend=none"] {
            assert!(told.contains(flag), "{flag}: {told}");
        }
        assert_eq!(told.lines().count(), 6, "{told}");
    }
}
