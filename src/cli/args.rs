//! Parses the command line and the configuration file.

use super::{
    config_file,
    flags::{ENVIRONMENT, FLAGS, Flag, Section},
    kind::ValueKind,
    low_args::LowArgs,
    suggest::suggestion,
};
use crate::error::{Error, Result};
use std::{ffi::OsString, io, path::Path};

use lexopt::{Arg, Parser, ValueExt};

/// A command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // `Command::ALL` describes them
pub enum Command {
    Run,
    Sync,
    Plan,
    Status,
    Bgp,
    Check,
    Dump,
    Cleanup,
    Version,
    #[default]
    Help,
}

impl Command {
    /// All commands with name and description, in the order of the help text.
    #[rustfmt::skip] // one row, one line
    pub const ALL: [(Command, &str, &str); 10] = [
        (Command::Run, "run", "the daemon: follow the cluster and keep the node right; the default if flags are given"),
        (Command::Sync, "sync", "make one pass, and print each step"),
        (Command::Plan, "plan", "print the steps that sync would take; exits with 2 if there are any"),
        (Command::Status, "status", "show if this node is right, and the reasons if not; exits with 1 if not"),
        (Command::Bgp, "bgp", "show the BGP peers; `bgp routes`: the routes (--peer IP --in, --out)"),
        (Command::Check, "check", "test if this board can run kinglet, and show how to fix what is missing"),
        (Command::Dump, "dump", "print the cluster and this node as JSON, for a bug report"),
        (Command::Cleanup, "cleanup", "remove everything that kinglet made, and nothing else"),
        (Command::Version, "version", "print the version"),
        (Command::Help, "help", "print this text"),
    ];

    /// Returns the name, as typed.
    pub fn name(self) -> &'static str {
        Command::ALL.iter().find(|(c, ..)| *c == self).map_or("", |(_, name, _)| name)
    }
}

/// An output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    #[default]
    Text,
    Sh,
    Json,
}

/// Returns an error about the command line.
pub(super) fn wrong(cause: impl std::fmt::Display) -> Error {
    Error::new("reading the command line", cause)
}

/// Parses the arguments after the program's name, without environment and configuration file. Fails if an
/// argument is invalid.
pub fn parse(typed: impl IntoIterator<Item = OsString>) -> Result<LowArgs> {
    parse_with(typed, |_| None, |_| Err(io::ErrorKind::NotFound.into()))
}

/// Parses the arguments after the program's name. They take precedence over the configuration file, which
/// takes precedence over the environment.
///
/// `env` returns an environment variable, and `read` the text of a file. Fails if an argument or the
/// configuration file is invalid, or if a file that `--config` names does not exist. `help` and `version`
/// work with an invalid file, and so does `cleanup` without `--config`.
pub fn parse_with(
    typed: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<LowArgs> {
    let mut parser = Parser::from_args(typed);
    let (mut command, mut bgp_routes) = (None, false);
    // `first` receives every typed value, which checks it; only the flags that select the command and the
    // configuration file are read from it.
    let (mut first, mut flags) = (LowArgs::default(), Vec::new());
    while let Some(arg) = parser.next().map_err(wrong)? {
        let flag = match arg {
            Arg::Value(word) => {
                let word = word.to_string_lossy().into_owned();
                if command == Some(Command::Bgp) && word == "routes" {
                    bgp_routes = true;
                    continue;
                }
                let row = Command::ALL.iter().find(|(_, name, _)| *name == word);
                let Some((found, ..)) = row else {
                    let near = suggestion(&word, Command::ALL.iter().map(|(_, name, _)| *name));
                    let text =
                        format!("there is no command {word:?}{near}; `kinglet help` lists all");
                    return Err(wrong(text));
                };
                if let Some(first) = command.replace(*found) {
                    let text = format!("{} and {word} are two commands: give one", first.name());
                    return Err(wrong(text));
                }
                continue;
            }
            Arg::Long(name) => find(&format!("--{name}"), |f| f.name() == name)?,
            Arg::Short(letter) => find(&format!("-{letter}"), |f| f.letter == Some(letter))?,
        };
        let text = value(flag, &mut parser)?;
        flag.kind.set(&mut first, &text).map_err(|expected| {
            wrong(format!("--{}={text}: {expected} is expected", flag.name()))
        })?;
        flags.push((flag, text));
    }
    if let (Some(Command::Cleanup), Some(other)) = (first.asked, command)
        && other != Command::Cleanup
    {
        let text = format!("--cleanup-config and {} are two commands: give one", other.name());
        return Err(wrong(text));
    }
    let command = first.asked.or(command);
    let mut args = LowArgs { bgp_routes, ..LowArgs::new() };
    let config_is_typed = !first.config.as_os_str().is_empty();
    let path = if config_is_typed { &first.config } else { &args.config };
    let conf = match read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !config_is_typed => Ok(Vec::new()),
        text => config_file::flags(path, text),
    };
    let conf = match conf {
        Ok(conf) => conf,
        // Help and version are printed even if the file is invalid.
        Err(_) if matches!(command, Some(Command::Help | Command::Version)) => Vec::new(),
        Err(e) if !config_is_typed && command == Some(Command::Cleanup) => {
            args.warnings.push(format!("{e}; the file is ignored"));
            Vec::new()
        }
        Err(e) => return Err(e),
    };
    args.command = match command {
        Some(command) => command,
        // kube-router is started without a command.
        None if !flags.is_empty() => Command::Run,
        None => return Err(wrong("no command given; `kinglet help` lists all")),
    };
    let env = ENVIRONMENT.iter().filter_map(|(name, variable)| {
        let flag = FLAGS.iter().find(|flag| flag.name() == *name)?;
        Some((flag, env(variable)?))
    });
    // A list on the command line replaces the list in the file, so the file's flag is left out.
    let is_typed = |flag: &Flag| flags.iter().any(|(typed, _)| typed.name() == flag.name());
    let conf: Vec<_> = conf.into_iter().filter(|(flag, _)| !is_typed(flag)).collect();
    for (flag, text) in env.chain(conf).chain(flags) {
        // Only a value from the environment can be invalid here; the default then stays.
        let _ = flag.kind.set(&mut args, &text);
        if flag.section == Section::Ignored && text != flag.default() {
            let warning = format!("--{} has no effect in this version", flag.name());
            if !args.warnings.contains(&warning) {
                args.warnings.push(warning);
            }
        }
    }
    args.check()?;
    Ok(args)
}

/// Finds a row by its name or letter. Fails with a suggestion if there is none; `typed` is for the error.
fn find(typed: &str, is: impl Fn(&Flag) -> bool) -> Result<&'static Flag> {
    FLAGS.iter().find(|f| is(f)).ok_or_else(|| {
        let name = typed.trim_start_matches('-');
        let near = suggestion(name, FLAGS.iter().map(Flag::name));
        let near = near.replace("mean ", "mean --");
        wrong(format!("there is no flag {typed}{near}; `kinglet help` lists all"))
    })
}

/// Returns the value that was typed for a flag. Fails if the value is missing or not UTF-8.
fn value(flag: &Flag, parser: &mut Parser) -> Result<String> {
    let typed = match flag.kind {
        ValueKind::Switch(_) => match parser.optional_value() {
            Some(value) => value,
            None => return Ok("true".to_owned()),
        },
        _ => parser.value().map_err(|_| wrong(format!("--{} needs a value", flag.name())))?,
    };
    typed.string().map_err(|_| wrong(format!("the value of --{} is not UTF-8", flag.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help::help;
    use crate::model::local::{NodePorts, Options, Routes};

    fn args(line: &str) -> Result<LowArgs> {
        parse(line.split_whitespace().map(Into::into))
    }

    /// Returns the options of a command line that names no password file.
    fn options(line: &str) -> Options {
        args(line).unwrap().options(|_| unreachable!()).unwrap()
    }

    fn error(line: &str) -> String {
        let text = args(line).unwrap_err().to_string();
        text.strip_prefix("reading the command line: ").unwrap().to_owned()
    }

    #[test]
    fn flags_without_a_command_run_the_daemon() {
        let line = "--run-router=true --run-firewall=true --run-service-proxy=true \
                --master=http://192.0.2.254:8080";
        let args = args(line).unwrap();
        assert_eq!(args.command, Command::Run);
        assert_eq!(args.master.as_deref(), Some("http://192.0.2.254:8080"));
        assert!(args.router && args.firewall && args.services && args.warnings.is_empty());
    }

    #[test]
    fn a_switch_takes_a_value_only_after_an_equals_sign() {
        assert!(!args("sync --run-router=false").unwrap().router);
        assert!(!args("sync --auto-mtu=F").unwrap().auto_mtu);
        assert!(args("sync --run-router").unwrap().router);
        assert_eq!(
            error("sync --run-router false"),
            "there is no command \"false\"; `kinglet help` lists all"
        );
        assert_eq!(
            error("sync --run-router=maybe"),
            "--run-router=maybe: true or false is expected"
        );
    }

    #[test]
    fn every_kube_router_flag_is_accepted_with_its_default() {
        let ours = [
            "audit-period",
            "config",
            "run-dir",
            "proxy-health-port",
            "watch",
            "cni-conf-file",
            "format",
            "from",
            "nodeport-addresses",
            "poll-interval",
            "resync-period",
            "routes",
            "advertise-cluster-ip-range",
            "peer-router-ttl-security",
            "peer",
            "in",
            "out",
            "snapshot",
        ];
        let routers: Vec<&Flag> = FLAGS.iter().filter(|f| !ours.contains(&f.name())).collect();
        assert_eq!(routers.len(), 79);
        for flag in routers {
            let line = format!("sync --{}={}", flag.name(), flag.default());
            let args = args(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(args.warnings, Vec::<String>::new(), "{line}: a default causes no warning");
        }
    }

    #[test]
    fn a_flag_without_effect_warns_once_even_if_repeated() {
        let line = "sync --gobgp-admin-port=1 --gobgp-admin-port=2 --cache-sync-timeout=1m \
                --bgp-graceful-restart-deferral-time=10s";
        let args = args(line).unwrap();
        assert_eq!(
            args.warnings,
            [
                "--gobgp-admin-port has no effect in this version",
                "--cache-sync-timeout has no effect in this version",
                "--bgp-graceful-restart-deferral-time has no effect in this version"
            ]
        );
    }

    #[test]
    fn lists_take_commas_and_repetition() {
        let args = args("sync --excluded-cidrs=10.0.0.0/8,fd00::/8 --excluded-cidrs 192.0.2.0/24");
        assert_eq!(args.unwrap().excluded_cidrs.len(), 3);
        assert_eq!(
            error("sync --excluded-cidrs=10.0.0.0/8,nonsense"),
            "--excluded-cidrs=10.0.0.0/8,nonsense: a list of CIDRs is expected"
        );
    }

    #[test]
    fn durations_in_go_syntax_become_seconds() {
        let args = args("sync --service-tcp-timeout=15m --service-udp-timeout 1m30s").unwrap();
        assert_eq!(args.timeouts, [900, 0, 90]);
        assert_eq!(args.warnings, Vec::<String>::new());
    }

    #[test]
    fn errors_name_the_flag_and_suggest_a_correction() {
        for (line, text) in [
            ("", "no command given; `kinglet help` lists all"),
            ("snyc", "there is no command \"snyc\" (did you mean sync?); `kinglet help` lists all"),
            ("plan sync", "plan and sync are two commands: give one"),
            (
                "sync --masster=x",
                "there is no flag --masster (did you mean --master?); `kinglet help` lists all",
            ),
            (
                "sync --wholly-unknown",
                "there is no flag --wholly-unknown; `kinglet help` lists all",
            ),
            ("plan --cleanup-config", "--cleanup-config and plan are two commands: give one"),
            ("--cleanup-config sync", "--cleanup-config and sync are two commands: give one"),
            ("sync -x", "there is no flag -x; `kinglet help` lists all"),
            ("sync --master", "--master needs a value"),
            ("sync --from x", "--from is for plan, not for sync"),
            ("sync --format sh", "--format sh is for plan, not for sync"),
            ("plan --format xml", "--format=xml: text, sh or json is expected"),
            (
                "sync --health-port=70000",
                "--health-port=70000: a number from 0 to 65535 is expected",
            ),
            (
                "sync --ipvs-sync-period=5",
                "--ipvs-sync-period=5: a duration such as 5s, 1m30s or 2h is expected",
            ),
            (
                "sync --run-router=false --run-service-proxy=false",
                "nothing to do: set --run-router or --run-service-proxy to true",
            ),
        ] {
            assert_eq!(error(line), text, "{line}");
        }
    }

    #[test]
    fn help_version_and_cleanup_have_flags_too() {
        for (line, command) in [
            ("--help", Command::Help),
            ("sync -h", Command::Help),
            ("-V", Command::Version),
            ("--cleanup-config --master=http://x", Command::Cleanup),
            ("sync -v 2", Command::Sync),
            ("-v=2", Command::Run),
        ] {
            assert_eq!(args(line).unwrap().command, command, "{line}");
        }
    }

    #[test]
    fn the_help_names_every_flag_and_command_within_100_columns() {
        let help = help();
        assert!(FLAGS.iter().all(|f| help.contains(&format!("--{}", f.name()))));
        assert!(Command::ALL.iter().all(|(_, name, _)| help.contains(name)));
        assert_eq!(help.lines().find(|l| l.chars().count() > 100), None);
    }

    #[test]
    fn parsing_never_panics_on_random_arguments() {
        use std::os::unix::ffi::OsStringExt;
        let pieces: Vec<&[u8]> = vec![
            b"sync",
            b"--",
            b"-",
            b"--master",
            b"=",
            b"\xff\xfe",
            b"--excluded-cidrs=\xff",
            b"-v",
            b"--run-router=",
            b"1h",
            b"--from=-",
            b"--format",
            b"json",
            b"-hV",
            b"--=x",
            b"\0",
        ];
        let mut seed = 7u64;
        for _ in 0..20_000 {
            let mut typed = Vec::new();
            for _ in 0..seed % 5 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let piece = pieces[(seed >> 33) as usize % pieces.len()];
                typed.push(OsString::from_vec(piece.to_vec()));
            }
            seed = seed.wrapping_add(1);
            let _ = parse(typed);
        }
    }

    #[test]
    fn bgp_routes_takes_a_peer_and_a_direction() {
        let typed = args("bgp routes --peer 192.0.2.1 --out").unwrap();
        assert!(typed.command == Command::Bgp && typed.bgp_routes && typed.only_out);
        assert_eq!(typed.peer.as_deref(), Some("192.0.2.1"));
        assert!(!args("bgp").unwrap().bgp_routes);
        assert!(error("routes").contains("there is no command"));
        assert!(error("bgp --peer 192.0.2.1").contains("are for bgp routes"));
        assert!(error("bgp routes --in").contains("set --peer"));
        assert!(error("bgp routes --peer 192.0.2.1 --in --out").contains("exclude each other"));
        for wrong in ["router", "192.0.2.1,192.0.2.2"] {
            assert!(
                error(&format!("bgp routes --peer {wrong}")).contains("an address is expected")
            );
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_flag() {
        let mut args = LowArgs::default();
        for flag in FLAGS.iter().filter(|flag| !flag.default().is_empty()) {
            assert_eq!(flag.kind.set(&mut args, flag.default()), Ok(()), "{}", flag.name());
        }
        assert_eq!(args.asked, None);
    }

    #[test]
    fn names_are_unique_and_sections_are_contiguous() {
        let mut names: Vec<&str> = FLAGS.iter().map(Flag::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FLAGS.len());
        let sections: Vec<Section> =
            FLAGS.chunk_by(|a, b| a.section == b.section).map(|flags| flags[0].section).collect();
        for (i, section) in sections.iter().enumerate() {
            assert!(!sections[..i].contains(section), "{section:?} occurs twice");
        }
    }

    #[test]
    fn options_without_flags_are_the_defaults() {
        let want = Options {
            router: true,
            services: true,
            cni: true,
            cni_conf: "/etc/cni/net.d/10-kuberouter.conflist".into(),
            auto_mtu: true,
            ipv4: true,
            ipv6: true,
            excluded: Vec::new(),
            guard: true,
            masquerade_all: false,
            pod_egress: true,
            node_ports: NodePorts::Primary,
            external: Vec::new(),
            grace: 30,
            peers: false,
            bgp: None,
            routes: Routes::Both,
            daemon: false,
            timeouts: [0; 3],
        };
        assert_eq!(Options::default(), want);
        assert_eq!(options("sync"), want);
        let args = args("sync").unwrap();
        assert_eq!(args.snapshot, Some("/var/lib/kinglet/snapshot".into()));
        assert_eq!((args.poll_interval, args.resync_period, args.audit_period), (0, 3600, 60));
        assert_eq!((args.health_port, args.proxy_health_port, args.metrics_port), (20_244, 0, 0));
        assert_eq!(
            (&*args.metrics_path, args.run_dir.to_str()),
            ("/metrics", Some("/run/kinglet"))
        );
    }

    #[test]
    fn the_daemon_has_bgp_and_other_commands_do_not() {
        let run = options("run");
        assert!(run.daemon && run.peers && run.bgp.is_some());
        let routed = options("run --routes=nodes");
        assert!(routed.daemon && !routed.peers && routed.bgp.is_none());
        let peers = options("sync --peer-router-ips=192.0.2.1 --peer-router-asns=1");
        assert!(!peers.daemon && peers.peers && peers.bgp.is_none());
    }

    #[test]
    fn the_last_nodeport_flag_takes_effect() {
        let nets = NodePorts::Of(vec!["10.0.0.0/8".parse().unwrap()]);
        for (line, want) in [
            ("sync --nodeport-addresses=10.0.0.0/8", nets.clone()),
            ("sync --nodeport-bindon-all-ip --nodeport-addresses=10.0.0.0/8", nets),
            ("sync --nodeport-addresses=10.0.0.0/8 --nodeport-bindon-all-ip", NodePorts::All),
            ("sync --nodeport-bindon-all-ip --nodeport-addresses=primary", NodePorts::Primary),
        ] {
            assert_eq!(options(line).node_ports, want, "{line}");
        }
    }

    #[test]
    fn options_that_switch_others_off() {
        assert_eq!(options("sync --ipvs-graceful-termination=false").grace, 0);
        assert_eq!(options("sync --ipvs-graceful-period=5s").grace, 5);
        let line = "sync --service-external-ip-range=192.0.2.0/24";
        assert_eq!(options(line).external.len(), 1);
        let line = format!("{line} --strict-external-ip-validation=false");
        assert_eq!(options(&line).external.len(), 0);
    }

    #[test]
    fn the_environment_gives_way_to_the_file_and_the_command_line() {
        let env = |name: &str| (name == "KUBE_ROUTER_CNI_CONF_FILE").then(|| "/env".to_owned());
        let got = |line: &str, text: &str| {
            let typed = line.split_whitespace().map(Into::into);
            let args = parse_with(typed, env, |_| Ok(text.to_owned())).unwrap();
            args.cni_conf.display().to_string()
        };
        assert_eq!(got("sync", ""), "/env");
        assert_eq!(got("sync", "cni-conf-file = /file"), "/file");
        assert_eq!(got("sync --cni-conf-file=/typed", "cni-conf-file = /file"), "/typed");
        let default = "/etc/cni/net.d/10-kuberouter.conflist";
        assert_eq!(got(&format!("sync --cni-conf-file={default}"), ""), default);
    }

    #[test]
    fn help_shows_file_for_flags_that_take_a_file() {
        let help = help();
        for flag in ["config", "kubeconfig", "snapshot", "cni-conf-file", "from"] {
            assert!(help.contains(&format!("  --{flag} FILE")), "{flag}");
        }
        assert!(help.contains("  --peer-router-passwords-file FILE"), "{help}");
    }

    /// Returns the notes below a section of boards/FLAGS.md.
    fn notes(section: Section) -> &'static str {
        match section {
            Section::Cluster => {
                "With `--run-service-proxy=false`, Services are read only if a flag advertises their \
             addresses.\n"
            }
            Section::Bgp => {
                "An annotation of a Service takes precedence over its flag. An address with a Local traffic \
             policy is advertised only while this node has a ready endpoint; a ClusterIP with a Local \
             policy is advertised beside the range of `--advertise-cluster-ip-range`. BFD runs in \
             asynchronous mode over one hop. If it finds the path broken, the session ends at once \
             instead of after the hold time. `--peer-router-passwords-file` takes precedence over \
             `--peer-router-passwords`.\n"
            }
            _ => "",
        }
    }

    /// Returns boards/FLAGS.md.
    fn markdown() -> String {
        let mut text = String::from(
            "# Flags\n\n\
         This file is generated from the table in the source; a test compares the two.\n\n\
         The names and the syntax are those of kube-router: `--flag value` or `--flag=value`. \
         `--flag=false` turns a switch off (`--flag false` does not). The elements of a list are \
         separated by commas, and a list flag may be repeated. A duration has units: `90s`, `1m30s`, \
         `2h`. `kinglet help` prints the same table.\n\n\
         `/etc/kinglet.conf` (or `--config FILE`) may contain the flags too, one `flag = value` on each \
         line; a line that begins with `#` is a comment. A flag on the command line takes precedence.\n",
        );
        for flags in FLAGS.chunk_by(|a, b| a.section == b.section) {
            let section = flags[0].section;
            text += &format!("\n## Flags {}\n\n", section.title());
            let is_ignored = section == Section::Ignored;
            text += if is_ignored {
                "A value other than the default, which is kube-router's, causes one warning.\n\n\
             | flag | default |\n|---|---|\n"
            } else {
                "| flag | default | effect |\n|---|---|---|\n"
            };
            for flag in flags {
                let letter = flag.letter.map_or(String::new(), |letter| format!("`-{letter}`, "));
                let value = flag.kind.placeholder();
                let typed = format!("--{} {value}", flag.name());
                let typed = format!("{letter}`{}`", typed.trim_end());
                let cells =
                    [&*typed, flag.default(), flag.help].map(|cell| cell.replace('|', "\\|"));
                text += &format!("| {} |\n", cells[..if is_ignored { 2 } else { 3 }].join(" | "));
            }
            if !notes(section).is_empty() {
                text += &format!("\n{}", notes(section));
            }
        }
        text
    }

    #[test]
    fn boards_flags_md_matches_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/boards/FLAGS.md");
        if std::env::var_os("KINGLET_WRITE").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == markdown(),
            "boards/FLAGS.md differs from the table of flags; to write it again: \
         KINGLET_WRITE=1 cargo test --lib flags_md"
        );
    }
}
