//! A network namespace for one test: the test binary starts itself again under `unshare -n` and runs that test alone.

use std::process::Command;

use super::sh;

/// Runs the body of a test in a new network namespace that has a link `eth0` with 192.0.2.11/24 and fd77::11/64.
pub fn in_namespace(body: impl FnOnce()) {
    let eth0 = "ip link add eth0 type veth peer name far; ip link set eth0 up; ip link set far up
        ip addr add 192.0.2.11/24 dev eth0; ip addr add fd77::11/64 dev eth0 nodad";
    in_namespace_with(eth0, body);
}

/// Like [`in_namespace`], but `setup`, a shell script, makes the links and addresses.
///
/// Panics if the test does not run in the namespace, or fails there.
pub fn in_namespace_with<F: FnOnce()>(setup: &str, body: F) {
    if std::env::var_os("KINGLET_IN_NAMESPACE").is_some() {
        sh(&format!("set -e; ip link set lo up; {setup}"));
        return body();
    }
    let test = test_of(std::any::type_name::<F>());
    let run = Command::new("unshare")
        .arg("-n")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("KINGLET_IN_NAMESPACE", "1")
        .output()
        .expect("starting unshare (package util-linux)");
    let text = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    assert!(run.status.success(), "{test}, as root in a network namespace: {text}");
    // With a name that no test has, the test harness runs nothing and exits with 0.
    assert!(text.contains("test result: ok. 1 passed;"), "{test} did not run: {text}");
}

/// Returns the name that the test harness has for the test function in which a closure stands. The type name of a closure is
/// the path of its function, with the crate's name in front and `{{closure}}` behind.
fn test_of(closure: &str) -> &str {
    let function = closure.split("::{{closure}}").next().unwrap();
    function.split_once("::").unwrap().1
}

#[test]
fn a_test_in_a_namespace_finds_its_own_name() {
    fn name<F: FnOnce()>(_: F) -> &'static str {
        test_of(std::any::type_name::<F>())
    }
    let own = "common::namespace::a_test_in_a_namespace_finds_its_own_name";
    assert_eq!(name(|| ()), own);
    let nested = || name(|| ());
    assert_eq!(nested(), own);
}

#[test]
#[should_panic(expected = "did not run")]
fn a_test_that_does_not_run_in_its_namespace_fails() {
    fn no_test_has_this_name() {
        in_namespace_with("true", || ());
    }
    no_test_has_this_name();
}
