//! Traces of other proxies and networks (kube-proxy, kube-router, flannel, Cilium, Calico, Weave) on
//! this node, and the commands that remove them. `probe` collects the traces. Pure.

/// The traces that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leftovers {
    /// The chains of nftables: family (`ip`, `ip6`, `inet`…), table, chain.
    pub chains: Vec<(&'static str, String, String)>,
    /// The names of the chains of iptables-legacy (xtables).
    pub legacy: Vec<String>,
    /// The names of all links.
    pub links: Vec<String>,
    /// The CNI configurations that sort before ours, so that the runtime uses them instead.
    pub conflists: Vec<String>,
    /// True if flannel's subnet file (/run/flannel/subnet.env) exists.
    pub flannel: bool,
    /// True if k3s was installed here (/var/lib/rancher/k3s exists).
    pub k3s: bool,
    /// True if a program listens on kube-proxy's health port (10256).
    pub proxy: bool,
}

/// The command that deletes all rules whose text contains PREFIX. KIND is `-legacy` or empty.
const IPTABLES: &str = "iptablesKIND-save | grep -v PREFIX | iptablesKIND-restore; ip6tablesKIND-save \
                        | grep -v PREFIX | ip6tablesKIND-restore";

impl Leftovers {
    /// Returns one line for each trace, with the command that removes it.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let stop = if self.k3s {
            "start k3s with --disable-kube-proxy"
        } else {
            "kubectl -n kube-system delete daemonset kube-proxy"
        };
        if self.proxy {
            warnings.push(format!("a kube-proxy seems to run (port 10256): {stop}"));
        }
        let chains: Vec<&str> = self.chains.iter().map(|(.., name)| &**name).collect();
        let legacy: Vec<&str> = self.legacy.iter().map(|name| &**name).collect();
        for (kind, chains) in [("", chains), ("-legacy", legacy)] {
            self.rules(kind, &chains, stop, &mut warnings);
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
            warnings.push(format!(
                "the nftables table {family} {table}: {stop}; then nft delete table {family} {table}"
            ));
        }
        self.links(&mut warnings);
        for name in &self.conflists {
            warnings.push(format!(
                "the CNI configuration {name} sorts before ours, and the runtime takes the first: \
                 remove it"
            ));
        }
        warnings
    }

    /// Adds the lines about the chains of one iptables: `kind` is empty for iptables-nft and `-legacy` for
    /// the older one. `stop` is the command that stops kube-proxy.
    fn rules(&self, kind: &str, chains: &[&str], stop: &str, warnings: &mut Vec<String>) {
        let chain = |starts: &[&str]| {
            chains.iter().any(|name| starts.iter().any(|start| name.starts_with(start)))
        };
        let rules = |prefix: &str| IPTABLES.replace("KIND", kind).replace("PREFIX", prefix);
        // The kubelet's own chains (KUBE-KUBELET-CANARY, KUBE-FIREWALL) stay.
        if chain(&["KUBE-SERVICES", "KUBE-SVC-", "KUBE-NODEPORT", "KUBE-PROXY-"]) {
            warnings.push(format!(
                "iptables{kind} rules of kube-proxy: {stop}; then kube-proxy --cleanup, or {}",
                rules("KUBE-")
            ));
        }
        if chain(&["KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-"]) {
            let restart =
                if self.k3s { "start k3s with --disable-network-policy; then " } else { "" };
            warnings.push(format!(
                "iptables{kind} rules of kube-router: {restart}kube-router --cleanup-config, or {}",
                rules("-e KUBE-ROUTER -e KUBE-POD-FW -e KUBE-NWPLCY -e kube-router")
            ));
        }
        if chain(&["FLANNEL-"]) {
            warnings.push(format!("iptables{kind} rules of flannel: {}", rules("-i FLANNEL")));
        }
    }

    /// Adds the lines about links and files.
    fn links(&self, warnings: &mut Vec<String>) {
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
                warnings.push(format!("the link {name} of {owner}: ip link delete {name}{more}"));
            }
        }
        let tunnels = || self.links.iter().filter(|link| link.starts_with("tun-"));
        if let Some(first) = tunnels().next() {
            let count = tunnels().count();
            warnings.push(format!(
                "{count} tunnels of kube-router, whose routes kinglet does not change: ip link delete \
                 {first}, and so on"
            ));
        }
        if self.flannel {
            let stop = if self.k3s { "start k3s with --flannel-backend=none; then " } else { "" };
            warnings.push(format!("flannel's /run/flannel/subnet.env: {stop}rm -r /run/flannel"));
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
    fn a_node_with_only_a_kubelet_has_no_leftovers() {
        let chains = vec![
            chain("ip", "mangle", "KUBE-KUBELET-CANARY"),
            chain("ip", "filter", "KUBE-FIREWALL"),
            chain("inet", "kinglet", "input"),
        ];
        let links = vec!["eth0".into(), "kube-bridge".into(), "kube-dummy-if".into()];
        assert_eq!(
            Leftovers { chains, links, ..Leftovers::default() }.warnings(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_leftover_is_listed_once_with_its_removal_command() {
        let leftovers = Leftovers {
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
            ..Leftovers::default()
        };
        let warnings = leftovers.warnings();
        let heads: Vec<&str> = warnings.iter().map(|l| l.split(": ").next().unwrap()).collect();
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
                "1 tunnels of kube-router, whose routes kinglet does not change",
                "the CNI configuration 05-cilium.conflist sorts before ours, and the runtime takes the first",
            ]
        );
        assert!(
            warnings[1].contains("delete daemonset kube-proxy; then kube-proxy --cleanup, or ")
        );
        assert!(
            warnings[3]
                .contains("iptables-legacy-save | grep -v KUBE- | iptables-legacy-restore; ip6")
        );
        assert!(warnings[4].ends_with("nft delete table ip kube-proxy"));
    }

    #[test]
    fn on_k3s_the_flags_that_disable_its_network_are_named() {
        let leftovers = Leftovers {
            chains: vec![
                chain("ip", "nat", "KUBE-SERVICES"),
                chain("ip", "filter", "KUBE-NWPLCY-DEFAULT"),
                chain("ip", "nat", "FLANNEL-POSTRTG"),
            ],
            links: vec!["flannel.1".into(), "cni0".into()],
            flannel: true,
            k3s: true,
            ..Leftovers::default()
        };
        let warnings = leftovers.warnings().join("\n");
        for flag in ["--disable-kube-proxy", "--disable-network-policy", "--flannel-backend=none"] {
            assert!(warnings.contains(flag), "{flag}: {warnings}");
        }
        assert_eq!(warnings.lines().count(), 6, "{warnings}");
    }
}
