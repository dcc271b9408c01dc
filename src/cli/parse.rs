//! Parses the command line, and merges it with the environment and the configuration file.

use std::{ffi::OsString, io, path::Path};

use lexopt::{Arg, Parser, ValueExt};

use super::{
    command::{Command, wrong},
    config_file,
    flags::{ENVIRONMENT, FLAGS, Flag, Section, defaults},
    low_args::LowArgs,
    suggest::suggestion,
    value::ValueKind,
};
use crate::error::Result;

/// Parses the arguments after the program's name, without environment and configuration file. Fails if an
/// argument is invalid.
#[cfg(test)]
pub(crate) fn parse(typed: impl IntoIterator<Item = OsString>) -> Result<LowArgs> {
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
    let mut args = LowArgs { bgp_routes, ..defaults() };
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

    fn args(line: &str) -> Result<LowArgs> {
        parse(line.split_whitespace().map(Into::into))
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
}
