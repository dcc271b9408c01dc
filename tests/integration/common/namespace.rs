//! A network namespace for one test: it runs itself again under `unshare -n`.

use std::process::Command;

use super::sh;

/// Runs the body of test `name` in a fresh network namespace, with a link `eth0` that is 192.0.2.11/24
/// and fd77::11/64.
pub fn in_namespace(name: &str, body: impl FnOnce()) {
    let eth0 = "ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up
        ip addr add 192.0.2.11/24 dev eth0; ip addr add fd77::11/64 dev eth0 nodad";
    in_namespace_with(eth0, name, body);
}

/// The same with what `setup` makes, in the shell's words.
pub fn in_namespace_with(setup: &str, name: &str, body: impl FnOnce()) {
    if std::env::var_os("KINGLET_IN_NAMESPACE").is_some() {
        sh(&format!("set -e; ip link set lo up; {setup}"));
        return body();
    }
    let run = Command::new("unshare")
        .arg("-n")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("KINGLET_IN_NAMESPACE", "1")
        .output()
        .expect("unshare is in util-linux");
    let text = [run.stdout, run.stderr].concat();
    assert!(run.status.success(), "as root, in a namespace: {}", String::from_utf8_lossy(&text));
}
