//! Compares the facts about a board with the requirements of the flags: one line for each requirement, which
//! ends with the remedy if the requirement is not met. Pure.

use std::fmt;

use super::{
    facts::{BoardFacts, FileState, Support},
    features::{FEATURES, Feature},
};

/// The result of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CheckVerdict {
    /// The requirement is met.
    Ok,
    /// The requirement is optional, or the test gave no answer.
    Warn,
    /// The requirement is mandatory and not met.
    Missing,
}

/// One line of the report.
#[derive(Debug, PartialEq)]
pub(crate) struct CheckLine {
    /// The result.
    pub verdict: CheckVerdict,
    /// The requirement, and the remedy if the requirement is not met.
    pub text: String,
}

impl fmt::Display for CheckLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            CheckVerdict::Ok => "ok",
            CheckVerdict::Warn => "warn",
            CheckVerdict::Missing => "missing",
        };
        write!(f, "{word:<8} {}", self.text)
    }
}

/// CAP_NET_ADMIN (linux/capability.h): to change links, routes, IPVS and nftables.
const CAP_NET_ADMIN: u32 = 12;
/// CAP_SYS_MODULE (linux/capability.h): to load modules.
const CAP_SYS_MODULE: u32 = 16;
/// 2025-01-01 as a Unix time. A clock that shows an earlier time was never set.
const EARLIEST_TIME: u64 = 1_735_689_600;

/// Returns the report. The board is able if no line is [`CheckVerdict::Missing`].
pub(crate) fn lines(facts: &BoardFacts) -> Vec<CheckLine> {
    let mut lines = CheckLines(Vec::new());
    kernel(facts, &mut lines);
    capabilities(facts, &mut lines);
    for FileState { path, purpose, required, writable } in &facts.files {
        match writable {
            true => lines.ok(format!("{path} is writable: {purpose}")),
            false => lines.fail(
                *required,
                format!("{path}, {purpose}: not writable; mount it, or remount it rw"),
            ),
        }
    }
    if !facts.missing_plugins.is_empty() {
        lines.fail(false, format!(
            "CNI plugins {}: not in /opt/cni/bin nor /usr/lib/cni of this mount namespace; install \
             containernetworking-plugins",
            facts.missing_plugins.join(", ")
        ));
    }
    if let Some(why) = &facts.health {
        lines.fail(
            true,
            format!("health port {why}; stop the program that listens there, or set --health-port"),
        );
    }
    if let Some(why) = &facts.bgp {
        lines.fail(
            false,
            format!(
                "BGP port {why}; peers can't connect to this node: stop the program that listens there \
                 (kube-router, BIRD, FRR), set --bgp-port, or set --routes=nodes to disable BGP"
            ),
        );
    }
    if facts.clock < EARLIEST_TIME {
        lines.fail(
            false,
            "the clock was never set, so certificates are not valid yet: run NTP first".into(),
        );
    }
    for (access, outcome) in &facts.api {
        match outcome {
            Ok(()) => lines.ok(format!("API: may {access}")),
            Err(why) => lines.fail(true, format!("API: {access}: {why}")),
        }
    }
    for text in facts.left.warnings() {
        lines.fail(false, text);
    }
    lines.0
}

struct CheckLines(Vec<CheckLine>);

impl CheckLines {
    fn ok(&mut self, text: String) {
        self.0.push(CheckLine { verdict: CheckVerdict::Ok, text });
    }

    /// Adds a line about an unmet requirement.
    fn fail(&mut self, required: bool, text: String) {
        let verdict = if required { CheckVerdict::Missing } else { CheckVerdict::Warn };
        self.0.push(CheckLine { verdict, text });
    }
}

/// Adds the lines about the kernel's version and features.
fn kernel(facts: &BoardFacts, lines: &mut CheckLines) {
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<u32>().ok()).unwrap_or(0);
    let mut parts = facts.release.split(|c: char| !c.is_ascii_digit());
    let release = (number(parts.next()), number(parts.next()));
    match release >= (5, 10) {
        true => lines.ok(format!("Linux {}", facts.release)),
        false => lines.fail(true, format!("Linux {}: 5.10 or later is needed", facts.release)),
    }
    let mut unknown = Vec::new();
    for feature in FEATURES.iter().filter(|f| facts.needs(f.part)) {
        let Feature { option, module, required, purpose, .. } = feature;
        let name = match module.is_empty() {
            true => format!("CONFIG_{option}"),
            false => format!("{module} (CONFIG_{option})"),
        };
        match facts.support(feature) {
            Support::Present => lines.ok(format!("{name}: {purpose}")),
            Support::Loadable if facts.can_load => {
                lines.ok(format!("{name}, loaded on demand: {purpose}"));
            }
            Support::Loadable => lines.fail(
                *required,
                format!("{name}, {purpose}: kernel.modules_disabled forbids loading it; load it at boot"),
            ),
            Support::Absent => lines.fail(
                *required,
                format!(
                    "{name}, {purpose}: not in this kernel nor in /lib/modules/{}; install the kernel's \
                     modules, or build with it",
                    facts.release
                ),
            ),
            // An option without a module of its own comes with another one.
            Support::Unknown if module.is_empty() => {}
            Support::Unknown => unknown.push(*module),
        }
    }
    if !unknown.is_empty() {
        let names = unknown.join(" ");
        lines.fail(
            false,
            format!(
                "{names}: unknown: not loaded, not in /lib/modules, and there is no /proc/config.gz; fine if \
                 they are built in"
            ),
        );
    }
}

/// Adds the lines about the capabilities of this process.
fn capabilities(facts: &BoardFacts, lines: &mut CheckLines) {
    let has = |capability: u32| facts.capabilities >> capability & 1 == 1;
    match has(CAP_NET_ADMIN) {
        true => lines.ok("CAP_NET_ADMIN".into()),
        false => lines.fail(
            true,
            "CAP_NET_ADMIN, to change links, routes, IPVS and nftables: run as root, or grant it"
                .into(),
        ),
    }
    let loads = |f: &&Feature| facts.needs(f.part) && facts.support(f) == Support::Loadable;
    let names: Vec<&str> = FEATURES.iter().filter(loads).map(|f| f.module).collect();
    if names.is_empty() {
        return;
    }
    match has(CAP_SYS_MODULE) {
        true => lines.ok("CAP_SYS_MODULE".into()),
        false => {
            let required = FEATURES.iter().filter(loads).any(|f| f.required);
            let names = names.join(" ");
            lines.fail(
                required,
                format!("CAP_SYS_MODULE, to load {names}: grant it, or load them at boot"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{collections::FlatMap, model::local::Module};

    /// Returns the facts of a board that meets every requirement.
    fn able() -> BoardFacts {
        BoardFacts {
            router: true,
            services: true,
            release: "6.1.0-18-arm64".into(),
            modules: FEATURES
                .iter()
                .filter(|f| !f.module.is_empty())
                .map(|f| (f.module, Module::Present))
                .collect(),
            can_load: true,
            capabilities: 1 << CAP_NET_ADMIN,
            clock: EARLIEST_TIME,
            ..BoardFacts::default()
        }
    }

    /// Returns the lines that are not `ok`.
    fn failures(facts: &BoardFacts) -> Vec<String> {
        let bad = |line: &CheckLine| line.verdict != CheckVerdict::Ok;
        lines(facts).iter().filter(|l| bad(l)).map(ToString::to_string).collect()
    }

    #[test]
    fn a_board_that_meets_every_requirement_is_able() {
        assert_eq!(failures(&able()), Vec::<String>::new());
        let text = lines(&able())[5].to_string();
        assert_eq!(text, "ok       ip_vs (CONFIG_IP_VS): Services");
    }

    #[test]
    fn a_missing_requirement_is_reported_with_purpose_and_remedy() {
        let mut facts = able();
        facts.modules.insert("ip_vs", Module::Absent);
        facts.modules.insert("br_netfilter", Module::Absent);
        facts.release = "5.4.0".into();
        facts.capabilities = 0;
        assert_eq!(
            failures(&facts),
            [
                "missing  Linux 5.4.0: 5.10 or later is needed",
                "warn     br_netfilter (CONFIG_BRIDGE_NETFILTER), source addresses from pod to pod on one node: not in this kernel nor in /lib/modules/5.4.0; install the kernel's modules, or build with it",
                "missing  ip_vs (CONFIG_IP_VS), Services: not in this kernel nor in /lib/modules/5.4.0; install the kernel's modules, or build with it",
                "missing  CAP_NET_ADMIN, to change links, routes, IPVS and nftables: run as root, or grant it",
            ]
        );
    }

    #[test]
    fn only_requirements_of_the_flags_are_checked() {
        let facts = BoardFacts { services: false, modules: FlatMap::new(), ..able() };
        assert!(!lines(&facts).iter().any(|l| l.text.contains("ip_vs")));
    }

    #[test]
    fn cap_sys_module_is_required_if_a_module_has_to_be_loaded() {
        let mut facts = able();
        facts.modules.insert("ip_vs", Module::Loadable);
        let missing = "missing  CAP_SYS_MODULE, to load ip_vs: grant it, or load them at boot";
        assert_eq!(failures(&facts), [missing]);
        facts.capabilities |= 1 << CAP_SYS_MODULE;
        assert_eq!(failures(&facts), Vec::<String>::new());
        facts.can_load = false;
        assert!(failures(&facts)[0].contains("modules_disabled"));
    }

    #[test]
    fn the_kernel_configuration_answers_if_the_modules_do_not() {
        let mut facts = able();
        facts.modules.clear();
        let lines = failures(&facts);
        assert!(lines.len() == 1 && lines[0].starts_with("warn     bridge veth br_"), "{lines:?}");
        let every = FEATURES.iter().map(|f| format!("CONFIG_{}=y\n", f.option)).collect::<String>();
        facts.config = Some(every.clone());
        assert_eq!(failures(&facts), Vec::<String>::new());
        facts.config = Some(every.replace("CONFIG_IP_VS_NFCT=y", "# CONFIG_IP_VS_NFCT is not set"));
        assert!(failures(&facts)[0].starts_with("missing  CONFIG_IP_VS_NFCT, masquerading"));
    }

    #[test]
    fn files_ports_the_api_and_the_clock_are_reported() {
        let mut facts = able();
        let file = |path: &str, required, writable| FileState {
            path: path.into(),
            purpose: "x",
            required,
            writable,
        };
        facts.files = vec![file("/etc/cni", true, false), file("/var", false, false)];
        facts.api = vec![
            ("list nodes".into(), Ok(())),
            ("watch services".into(), Err("403 Forbidden".into())),
        ];
        facts.clock = 0;
        facts.missing_plugins = vec!["bridge"];
        facts.health = Some("20244: Address in use".into());
        facts.bgp = Some("179: Address in use".into());
        let lines = failures(&facts);
        let heads: Vec<&str> = lines.iter().map(|l| l.split([':', ';']).next().unwrap()).collect();
        assert_eq!(
            heads,
            [
                "missing  /etc/cni, x",
                "warn     /var, x",
                "warn     CNI plugins bridge",
                "missing  health port 20244",
                "warn     BGP port 179",
                "warn     the clock was never set, so certificates are not valid yet",
                "missing  API",
            ]
        );
    }
}
