//! Is this board able? What the chosen flags need of the kernel, the rights, the files and the API,
//! each with what to do where it is missing; and what another proxy left behind. `look` gathers the
//! facts, here it is decided what they mean. Pure.

pub mod features;
mod left;
mod look;

use std::fmt;

pub use features::{FEATURES, Feature, Part};
pub use left::Left;
pub use look::{Asked, look};

use crate::{few::Few, local::Module};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether routes and the CNI configuration are asked for.
    pub router: bool,
    /// Whether Services are asked for.
    pub services: bool,
    /// The kernel's release.
    pub release: String,
    /// Modules by what can be said of them.
    pub modules: Few<&'static str, Module>,
    /// The kernel's configuration (`CONFIG_…=y` lines), where it can be read.
    pub config: Option<String>,
    /// Whether modules can be loaded at all (kernel.modules_disabled).
    pub loads: bool,
    /// The effective capabilities of this process.
    pub rights: u64,
    /// Files and folders that have to be writable.
    pub files: Vec<File>,
    /// CNI plugins that are in none of their usual folders.
    pub plugins: Vec<&'static str>,
    /// What the API lets us do: `list nodes`, and why not.
    pub api: Vec<(String, Result<(), String>)>,
    /// Why the health port can't be had; `None`: it can, or is ours already.
    pub health: Option<String>,
    /// Why the port of BGP can't be had; `None`: it can, or is ours already, or is not needed.
    pub bgp: Option<String>,
    /// Seconds since 1970, by this board's clock.
    pub clock: u64,
    /// What others left.
    pub left: Left,
}

/// A file or folder that has to be writable.
#[derive(Clone, Debug)]
pub struct File {
    /// Where.
    pub path: String,
    /// What for.
    pub does: &'static str,
    /// Whether it goes without.
    pub must: bool,
    /// Whether it is.
    pub writable: bool,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is there.
    Ok,
    /// It goes without, or it could not be told.
    Warn,
    /// It has to be there and is not.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Whether it is as it should be.
    pub verdict: Verdict,
    /// What it is, and what to do about it.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Missing => "missing",
        };
        write!(f, "{word:<8} {}", self.text)
    }
}

/// The right to change links, routes, IPVS and nftables (CAP_NET_ADMIN, linux/capability.h).
const NET_ADMIN: u32 = 12;
/// The right to load modules (CAP_SYS_MODULE).
const SYS_MODULE: u32 = 16;
/// 2025-01-01: no board's clock that was set says an earlier time.
const NO_EARLIER: u64 = 1_735_689_600;

/// What the facts mean, line by line. It is able where no line is [`Verdict::Missing`].
pub fn lines(facts: &Facts) -> Vec<Line> {
    let mut lines = Lines(Vec::new());
    kernel(facts, &mut lines);
    rights(facts, &mut lines);
    for File { path, does, must, writable } in &facts.files {
        match writable {
            true => lines.ok(format!("{path} is writable: {does}")),
            false => lines
                .not(*must, format!("{path}, {does}: not writable; mount it, or remount it rw")),
        }
    }
    if !facts.plugins.is_empty() {
        lines.not(false, format!(
            "CNI plugins {}: not in /opt/cni/bin nor /usr/lib/cni of this mount namespace; install \
             containernetworking-plugins",
            facts.plugins.join(", ")
        ));
    }
    if let Some(why) = &facts.health {
        lines
            .not(true, format!("health port {why}; stop what listens there, or set --health-port"));
    }
    if let Some(why) = &facts.bgp {
        lines.not(
            false,
            format!(
                "BGP port {why}; peers can't connect to this node: stop what listens there (kube-router, \
                 BIRD, FRR), or set --bgp-port, or --routes=nodes to do without BGP"
            ),
        );
    }
    if facts.clock < NO_EARLIER {
        lines.not(
            false,
            "the clock was never set, so certificates are not valid yet: run NTP first".into(),
        );
    }
    for (what, outcome) in &facts.api {
        match outcome {
            Ok(()) => lines.ok(format!("API: may {what}")),
            Err(why) => lines.not(true, format!("API: {what}: {why}")),
        }
    }
    for text in facts.left.told() {
        lines.not(false, text);
    }
    lines.0
}

struct Lines(Vec<Line>);

impl Lines {
    fn ok(&mut self, text: String) {
        self.0.push(Line { verdict: Verdict::Ok, text });
    }

    fn not(&mut self, must: bool, text: String) {
        let verdict = if must { Verdict::Missing } else { Verdict::Warn };
        self.0.push(Line { verdict, text });
    }
}

/// What is known of a feature.
#[derive(Debug, PartialEq)]
enum Known {
    Here,
    Loadable,
    Absent,
    Nothing,
}

impl Facts {
    fn needs(&self, part: Part) -> bool {
        match part {
            Part::Router => self.router,
            Part::Services => self.services,
            Part::Both => self.router || self.services,
        }
    }

    /// What was seen of a module comes before what the configuration says.
    fn known(&self, feature: &Feature) -> Known {
        match self.modules.get(feature.module) {
            Some(Module::Present) => return Known::Here,
            Some(Module::Loadable) => return Known::Loadable,
            Some(Module::Absent) => return Known::Absent,
            None => {}
        }
        let Some(config) = &self.config else { return Known::Nothing };
        let value = config.lines().find_map(|line| {
            line.strip_prefix("CONFIG_")?.strip_prefix(feature.option)?.strip_prefix('=')
        });
        match value {
            Some("y") => Known::Here,
            // A part of a module comes with it; a module of its own should have been found.
            Some("m") if feature.module.is_empty() => Known::Here,
            _ => Known::Absent,
        }
    }
}

fn kernel(facts: &Facts, lines: &mut Lines) {
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<u32>().ok()).unwrap_or(0);
    let mut parts = facts.release.split(|c: char| !c.is_ascii_digit());
    let release = (number(parts.next()), number(parts.next()));
    match release >= (5, 10) {
        true => lines.ok(format!("Linux {}", facts.release)),
        false => lines.not(true, format!("Linux {}: 5.10 or later is needed", facts.release)),
    }
    let mut unknown = Vec::new();
    for feature in FEATURES.iter().filter(|f| facts.needs(f.part)) {
        let Feature { option, module, must, does, .. } = feature;
        let name = match module.is_empty() {
            true => format!("CONFIG_{option}"),
            false => format!("{module} (CONFIG_{option})"),
        };
        match facts.known(feature) {
            Known::Here => lines.ok(format!("{name}: {does}")),
            Known::Loadable if facts.loads => lines.ok(format!("{name}, to be loaded: {does}")),
            Known::Loadable => lines.not(
                *must,
                format!("{name}, {does}: kernel.modules_disabled forbids to load it; load it at boot"),
            ),
            Known::Absent => lines.not(
                *must,
                format!(
                    "{name}, {does}: not in this kernel nor in /lib/modules/{}; install the kernel's \
                     modules, or build with it",
                    facts.release
                ),
            ),
            Known::Nothing if module.is_empty() => {} // it comes with another
            Known::Nothing => unknown.push(*module),
        }
    }
    if !unknown.is_empty() {
        let names = unknown.join(" ");
        lines.not(
            false,
            format!(
                "{names}: cannot tell, for they are not loaded, not in /lib/modules, and there is no \
                 /proc/config.gz; fine where they are built in"
            ),
        );
    }
}

fn rights(facts: &Facts, lines: &mut Lines) {
    let has = |right: u32| facts.rights >> right & 1 == 1;
    match has(NET_ADMIN) {
        true => lines.ok("CAP_NET_ADMIN".into()),
        false => lines.not(
            true,
            "CAP_NET_ADMIN, to change links, routes, IPVS and nftables: run as root, or give it"
                .into(),
        ),
    }
    let loads = |f: &&Feature| facts.needs(f.part) && facts.known(f) == Known::Loadable;
    let names: Vec<&str> = FEATURES.iter().filter(loads).map(|f| f.module).collect();
    if names.is_empty() {
        return;
    }
    match has(SYS_MODULE) {
        true => lines.ok("CAP_SYS_MODULE".into()),
        false => {
            let must = FEATURES.iter().filter(loads).any(|f| f.must);
            let names = names.join(" ");
            lines.not(
                must,
                format!("CAP_SYS_MODULE, to load {names}: give it, or load them at boot"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board that has everything.
    fn able() -> Facts {
        Facts {
            router: true,
            services: true,
            release: "6.1.0-18-arm64".into(),
            modules: FEATURES
                .iter()
                .filter(|f| !f.module.is_empty())
                .map(|f| (f.module, Module::Present))
                .collect(),
            loads: true,
            rights: 1 << NET_ADMIN,
            clock: NO_EARLIER,
            ..Facts::default()
        }
    }

    /// The lines that are not `ok`.
    fn wrong(facts: &Facts) -> Vec<String> {
        let bad = |line: &Line| line.verdict != Verdict::Ok;
        lines(facts).iter().filter(|l| bad(l)).map(ToString::to_string).collect()
    }

    #[test]
    fn a_board_that_has_everything_is_able() {
        assert_eq!(wrong(&able()), Vec::<String>::new());
        let text = lines(&able())[5].to_string();
        assert_eq!(text, "ok       ip_vs (CONFIG_IP_VS): Services");
    }

    #[test]
    fn what_is_missing_is_told_with_what_it_is_for_and_what_to_do() {
        let mut facts = able();
        facts.modules.insert("ip_vs", Module::Absent);
        facts.modules.insert("br_netfilter", Module::Absent);
        facts.release = "5.4.0".into();
        facts.rights = 0;
        assert_eq!(
            wrong(&facts),
            [
                "missing  Linux 5.4.0: 5.10 or later is needed",
                "warn     br_netfilter (CONFIG_BRIDGE_NETFILTER), source addresses from pod to pod on one node: not in this kernel nor in /lib/modules/5.4.0; install the kernel's modules, or build with it",
                "missing  ip_vs (CONFIG_IP_VS), Services: not in this kernel nor in /lib/modules/5.4.0; install the kernel's modules, or build with it",
                "missing  CAP_NET_ADMIN, to change links, routes, IPVS and nftables: run as root, or give it",
            ]
        );
    }

    #[test]
    fn only_what_the_flags_need_is_looked_at() {
        let facts = Facts { services: false, modules: Few::new(), ..able() };
        assert!(!lines(&facts).iter().any(|l| l.text.contains("ip_vs")));
    }

    #[test]
    fn the_right_to_load_modules_is_needed_where_there_is_one_to_load() {
        let mut facts = able();
        facts.modules.insert("ip_vs", Module::Loadable);
        let missing = "missing  CAP_SYS_MODULE, to load ip_vs: give it, or load them at boot";
        assert_eq!(wrong(&facts), [missing]);
        facts.rights |= 1 << SYS_MODULE;
        assert_eq!(wrong(&facts), Vec::<String>::new());
        facts.loads = false;
        assert!(wrong(&facts)[0].contains("modules_disabled"));
    }

    #[test]
    fn the_kernels_configuration_tells_where_no_module_does() {
        let mut facts = able();
        facts.modules.clear();
        let told = wrong(&facts);
        assert!(told.len() == 1 && told[0].starts_with("warn     bridge veth br_"), "{told:?}");
        let every = FEATURES.iter().map(|f| format!("CONFIG_{}=y\n", f.option)).collect::<String>();
        facts.config = Some(every.clone());
        assert_eq!(wrong(&facts), Vec::<String>::new());
        facts.config = Some(every.replace("CONFIG_IP_VS_NFCT=y", "# CONFIG_IP_VS_NFCT is not set"));
        assert!(wrong(&facts)[0].starts_with("missing  CONFIG_IP_VS_NFCT, masquerading"));
    }

    #[test]
    fn files_the_api_and_the_clock_are_told() {
        let mut facts = able();
        let file =
            |path: &str, must, writable| File { path: path.into(), does: "x", must, writable };
        facts.files = vec![file("/etc/cni", true, false), file("/var", false, false)];
        facts.api = vec![
            ("list nodes".into(), Ok(())),
            ("watch services".into(), Err("403 Forbidden".into())),
        ];
        facts.clock = 0;
        facts.plugins = vec!["bridge"];
        facts.health = Some("20244: Address in use".into());
        facts.bgp = Some("179: Address in use".into());
        let wrong = wrong(&facts);
        let heads: Vec<&str> = wrong.iter().map(|l| l.split([':', ';']).next().unwrap()).collect();
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
