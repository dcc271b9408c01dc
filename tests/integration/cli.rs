//! The command line: the built binary without root and without changes to the kernel.

use std::{
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::common::{Folder, Outcome, Server, kinglet, recorded};
use serde_json::Value;

/// Returns the output of `kubectl get nodes,services,endpointslices -A -o json` for a recorded
/// cluster: one list, each item with its kind and apiVersion.
fn kubectl_list(name: &str) -> String {
    let mut items = Vec::new();
    for (file, kind, version) in [
        ("nodes.json", "Node", "v1"),
        ("services.json", "Service", "v1"),
        ("endpointslices.json", "EndpointSlice", "discovery.k8s.io/v1"),
    ] {
        let text = std::fs::read_to_string(recorded(name).join(file)).unwrap();
        let mut list: Value = serde_json::from_str(&text).unwrap();
        for item in list["items"].as_array_mut().unwrap() {
            let mut whole = serde_json::json!({ "apiVersion": version, "kind": kind });
            whole.as_object_mut().unwrap().append(item.as_object_mut().unwrap());
            items.push(whole);
        }
    }
    serde_json::json!({ "apiVersion": "v1", "items": items, "kind": "List" }).to_string()
}

fn plan_of(node: &str, format: &str) -> Outcome {
    let args = ["plan", "--from", "-", "--hostname-override", node, "--format", format];
    kinglet(&args, kubectl_list("three-nodes"))
}

/// Held by tests that run `kinglet sync`, because the lock of the node is one for the machine.
static NODE: Mutex<()> = Mutex::new(());

/// Waits until no other test runs `kinglet sync`.
fn alone() -> MutexGuard<'static, ()> {
    NODE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn items(plan: &Value) -> Vec<Value> {
    plan["steps"].as_array().unwrap().iter().map(|step| step["item"].clone()).collect()
}

#[test]
fn a_kubectl_list_is_enough_to_plan_for_any_node() {
    let run = plan_of("node-2", "json");
    assert_eq!((run.code, &*run.stderr), (Some(2), ""));
    let plan: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(plan["node"], "node-2");
    assert!(plan["steps"].as_array().unwrap().iter().all(|step| step["step"] == "add"));
    let items = items(&plan);
    for text in [
        r#"{"kind":"route","table":254,"to":"10.244.0.0/24","via":"192.0.2.11"}"#,
        r#"{"kind":"route","table":254,"to":"10.244.2.0/24","via":"192.0.2.13"}"#,
        r#"{"kind":"link","name":"kube-bridge","type":"bridge"}"#,
        r#"{"kind":"addr","link":"kube-dummy-if","addr":"10.96.0.10/32"}"#,
        r#"{"kind":"service","at":{"addr":"10.96.0.10","protocol":"udp","port":53},"scheduler":"rr","flags":0,"persistence":0}"#,
        r#"{"kind":"service","at":{"addr":"10.96.229.253","protocol":"tcp","port":80},"scheduler":"rr","flags":0,"persistence":600}"#,
        r#"{"kind":"real","of":{"addr":"10.96.0.10","protocol":"tcp","port":53},"addr":"10.244.0.7","port":53,"weight":1,"forward":"masq"}"#,
    ] {
        let item: Value = serde_json::from_str(text).unwrap();
        assert!(items.contains(&item), "{text} is not in the plan: {}", run.stdout);
    }
    let own = "10.244.1.0/24";
    assert!(!items.iter().any(|i| i["kind"] == "route" && i["to"] == own), "its own pods");
    let file = items.last().unwrap();
    assert_eq!(file["path"], "/etc/cni/net.d/10-kuberouter.conflist");
    let conf: Value = serde_json::from_str(file["text"].as_str().unwrap()).unwrap();
    assert_eq!(conf["plugins"][0]["ipam"]["ranges"], serde_json::json!([[{ "subnet": own }]]));
    assert!(conf["plugins"][0].get("mtu").is_none(), "the MTU of a node unseen is not known");
}

#[test]
fn services_that_no_proxy_serves_are_not_in_the_plan() {
    let plan = plan_of("node-1", "text").stdout;
    // web-headless, extname and otherproxy (10.96.49.35)
    assert!(!plan.contains("10.96.49.35"), "{plan}");
    assert!(!plan.contains("None"), "{plan}");
    // 25 ports at ClusterIPs, 3 at external addresses, 2 at a load balancer's, and 5 NodePorts. The
    // last four of a Service with a Local policy have other endpoints for clients outside, as
    // web-etp-local does.
    let services = || plan.lines().filter(|l| l.starts_with("+ service "));
    assert_eq!(services().filter(|l| !l.contains(" mark ")).count(), 35, "{plan}");
    assert_eq!(services().filter(|l| l.contains(" mark ")).count(), 5, "{plan}");
    assert!(plan.contains("! healthCheckNodePort 30848 of Service shop/web-lb: "), "{plan}");
}

#[test]
fn the_shell_script_has_valid_syntax() {
    let run = plan_of("node-1", "sh");
    assert!(run.stdout.starts_with("#!/bin/sh\n"), "{}", run.stdout);
    assert!(run.stdout.contains("\nip route add 10.244.1.0/24 via 192.0.2.12 proto 17\n"));
    assert!(run.stdout.contains("\nipvsadm -A -t 10.96.0.1:443 -s rr\n"));
    let folder = Folder::new();
    folder.write("plan.sh", &run.stdout);
    let path = folder.join("plan.sh");
    let status = std::process::Command::new("sh").arg("-n").arg(path).status().unwrap();
    assert!(status.success(), "{}", run.stdout);
}

#[test]
fn an_unknown_node_name_is_reported_with_the_known_names() {
    let run = plan_of("node-9", "text");
    assert_eq!((run.code, &*run.stdout), (Some(1), ""));
    assert!(
        run.stderr.contains("none of the 3 Nodes of the API (node-1, node-2, node-3"),
        "{run:?}"
    );
}

#[test]
fn a_dump_can_be_planned_on_another_machine() {
    let server = Server::start::<&str>(&recorded("three-nodes"), &[]);
    let dump = kinglet(&["dump", "--master", &server.url(), "--hostname-override", "node-1"], "");
    assert_eq!(dump.code, Some(0), "{dump:?}");
    // This machine is not node-1, so a plan for node-1 is refused. A plan for any other node is
    // made.
    let run = kinglet(&["plan", "--from", "-", "--hostname-override", "node-2"], &dump.stdout);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert_eq!(run.stdout, plan_of("node-2", "text").stdout);
    let run = kinglet(&["plan", "--from", "-"], &dump.stdout);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("finding node node-1 in the cluster: no link here"), "{run:?}");
}

#[test]
fn an_unreadable_api_is_an_error_that_names_the_remedy() {
    let _alone = alone();
    let objects = recorded("three-nodes");
    for (fault, expected) in [
        ("/services:html", "is that the API server, or a proxy before it?"),
        ("/services:garbage", "is not HTTP"),
        ("/services:empty", "an empty reply"),
        ("/services:cut=9000", "cut"),
        ("/services:status=503", "503 Service Unavailable"),
        ("/nodes:status=500", "listing nodes from"),
        ("endpointslices:cut=20000", "listing endpointslices from"),
    ] {
        let server = Server::start(&objects, &["--fault", fault]);
        let args = ["sync", "--snapshot=", "--master", &server.url()];
        let args = [&args[..], &["--hostname-override", "node-1"]].concat();
        let run = kinglet(&args, "");
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{fault}: {run:?}");
        let error = run.stderr.lines().last().unwrap();
        assert!(error.starts_with("kinglet: error: listing "), "{fault}: {error}");
        assert!(error.contains(expected), "{fault}: {error}");
        assert!(error.len() < 500, "{fault}: {error}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_named_in_the_error() {
    let run = kinglet(&["plan", "--master", "http://127.0.0.1:1", "--hostname-override", "a"], "");
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("http://127.0.0.1:1"), "{run:?}");
    assert!(run.stderr.contains("refused"), "{run:?}");
}

#[test]
fn sync_while_another_kinglet_works_reports_it_and_exits_with_0() {
    let _alone = alone();
    let name = SocketAddr::from_abstract_name("kinglet").unwrap();
    let held = std::os::unix::net::UnixDatagram::bind_addr(&name).unwrap();
    let run = kinglet(&["sync", "--master", "http://127.0.0.1:1", "--run-firewall=false"], "");
    drop(held);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("another kinglet is at work on this node"), "{run:?}");
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let folder = Folder::new();
    folder.write("list.json", kubectl_list("three-nodes"));
    let line = format!(
        "{} plan --from {} --hostname-override node-1 | head -n 1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_kinglet"),
        folder.join("list.json").display()
    );
    let run = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
}

#[test]
fn input_that_is_neither_a_list_nor_a_dump_is_an_error() {
    for text in ["", "{", "[]", "<html>", r#"{"kind":"Pod"}"#, r#"{"kinglet":1}"#, "\u{0}"] {
        let run = kinglet(&["plan", "--from", "-", "--hostname-override", "node-1"], text);
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{text}: {run:?}");
        assert!(run.stderr.starts_with("kinglet: error: "), "{text}: {run:?}");
    }
}

#[test]
fn the_flags_document_names_every_flag_that_the_help_explains() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/boards/FLAGS.md");
    let document = std::fs::read_to_string(path).unwrap();
    let help = kinglet(&["help"], "").stdout;
    let explained = help.split("without effect").next().unwrap();
    let flags = explained.split_whitespace().filter(|word| word.starts_with("--"));
    for flag in flags.map(|f| f.trim_end_matches([',', ')', ';'])).filter(|f| !f.contains('=')) {
        assert!(document.contains(&format!("`{flag}")), "boards/FLAGS.md does not name {flag}");
    }
}

#[test]
fn workshop_bgp_flags_are_accepted_and_lists_of_different_lengths_are_an_error() {
    let line =
        ["run", "--peer-router-ips=192.0.2.1", "--advertise-cluster-ip", "--run-firewall=false"];
    let run = kinglet(&line, "");
    let want = "kinglet: error: reading the command line: --peer-router-asns has 0 entries and \
                --peer-router-ips has 1: one for each is expected\n";
    assert_eq!((run.code, &*run.stderr), (Some(1), want));
    let plan = ["plan", "--from", "-", "--hostname-override", "node-1"];
    let line = [&plan[..], &line[1..], &["--peer-router-asns=64512"]].concat();
    let run = kinglet(&line, kubectl_list("three-nodes"));
    assert_eq!((run.code, &*run.stderr), (Some(2), ""));
}

#[test]
fn no_error_prints_a_password() {
    let folder = Folder::new();
    folder.write("words", "czNjcmV0,s3cret!\n");
    folder.write("conf", "peer-router-passwordz = s3cret\n");
    let file = format!("--peer-router-passwords-file={}", folder.join("words").display());
    let conf = format!("--config={}", folder.join("conf").display());
    let routers = ["--peer-router-ips=192.0.2.1,192.0.2.2", "--peer-router-asns=64513,64514"];
    for (more, want) in [
        (&*file, "router 192.0.2.2 of --peer-router-ips: its password is not base64"),
        ("--peer-router-passwords=czNjcmV0", "--peer-router-passwords has 1 entries"),
        ("--peer-router-passwords=s3cret!,", "router 192.0.2.1 of --peer-router-ips: its password"),
        (&*conf, "\"peer-router-passwordz\": there is no flag peer-router-passwordz"),
    ] {
        let run = kinglet(&[&["run", "--run-firewall=false", more][..], &routers].concat(), "");
        assert!(run.code == Some(1) && run.stderr.contains(want), "{run:?}");
        assert!(!run.stderr.contains("s3cret") && !run.stderr.contains("czNjcmV0"), "{run:?}");
    }
}
