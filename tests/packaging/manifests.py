#!/usr/bin/env python3
"""manifests.py FOLDER KINGLET: what the DaemonSets have to say beyond the schema.

Starts daemons: to be run in network and mount namespaces of its own."""
import json
import re
import subprocess
import sys
import time
import urllib.request

import yaml

folder, kinglet = sys.argv[1:]


def daemonset(name):
    with open(f"{folder}/{name}") as file:
        return next(d for d in yaml.safe_load_all(file) if d["kind"] == "DaemonSet")


def same(what, is_, should):
    if is_ != should:
        sys.exit(f"boards: {what} is {is_}, and should be {should}")


NODES = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{n}"},
          "spec": {"podCIDR": f"10.244.{n}.0/24", "podCIDRs": [f"10.244.{n}.0/24"]},
          "status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{n}"}]}} for n in (1, 2)]
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
           "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
                    "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}}
SLICE = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "web-1", "namespace": "default",
                      "labels": {"kubernetes.io/service-name": "web"}},
         "ports": [{"port": 80, "protocol": "TCP", "name": ""}],
         "endpoints": [{"addresses": ["10.244.2.5"], "conditions": {"ready": True}}]}


def kinglet_plan(args, env):
    cluster = json.dumps({"kind": "List", "apiVersion": "v1", "items": [*NODES, SERVICE, SLICE]})
    return subprocess.run([kinglet, "plan", "--from", "-", "--format", "json", *args],
                          input=cluster, env=env, capture_output=True, text=True)


def lives(name, container, env):
    """Starts a daemon as the container would and asks as its probe would, long before there is an API."""
    probe = container["livenessProbe"]
    port, path = probe["httpGet"]["port"], probe["httpGet"]["path"]
    args = [re.sub("//API-SERVER:.*", "//127.0.0.1:1", a) for a in container["args"]]
    daemon = subprocess.Popen([kinglet, *args], env=env, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as answer:
            same(f"{name}: its probe", answer.status, 200)
    finally:
        daemon.terminate()
        said = daemon.communicate(timeout=10)[1]
    same(f"{name}: the end of its daemon", daemon.returncode, 0)
    warned = "NETWORK POLICY IS NOT ENFORCED" in said
    same(f"{name}: a warning about network policy", warned, "--run-firewall=true" in args)


# What a workshop's kube-router has, which is promised to run unchanged but for its image.
pod = daemonset("workshop.yaml")["spec"]["template"]["spec"]
(container,) = pod["containers"]
same("workshop: arguments", container["args"], [
    "--run-router=true", "--run-firewall=true", "--run-service-proxy=true", "--master=http://API-SERVER:8080"])
same("workshop: command", container.get("command"), None)
same("workshop: environment", container["env"], [
    {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    {"name": "KUBE_ROUTER_CNI_CONF_FILE", "value": "/etc/cni/net.d/10-kuberouter.conflist"}])
same("workshop: probe", container["livenessProbe"], {
    "httpGet": {"path": "/healthz", "port": 20244}, "initialDelaySeconds": 10, "periodSeconds": 3})
same("workshop: mounts", {m["mountPath"]: m.get("readOnly", False) for m in container["volumeMounts"]},
     {"/lib/modules": True, "/etc/cni/net.d": False})
same("workshop: rights", container["securityContext"], {"privileged": True})
same("workshop: network", pod["hostNetwork"], True)

# Every argument of both is taken by this kinglet, in the meaning that it has there.
for name in ["workshop.yaml", "daemonset.yaml"]:
    pod = daemonset(name)["spec"]["template"]["spec"]
    volumes = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"]}
    for container in pod.get("initContainers", []) + pod["containers"]:
        for mount in container["volumeMounts"]:
            same(f"{name}: the place of {mount['name']}", volumes[mount["name"]], mount["mountPath"])
        same(f"{name}: image", container["image"], "IMAGE")
        args = [a for a in container["args"] if not re.fullmatch("run|sync|--master=.*", a)]
        env = {e["name"]: e.get("value", "node-1") for e in container["env"]}
        env["KUBE_ROUTER_CNI_CONF_FILE"] = env.get("KUBE_ROUTER_CNI_CONF_FILE", "") + ".test"
        plan = kinglet_plan(args, env)
        same(f"{name}: the exit code of plan {args}", plan.returncode, 2)
        steps = json.loads(plan.stdout)["steps"]
        files = [s["item"]["path"] for s in steps if s["item"]["kind"] == "file"]
        same(f"{name}: the CNI configuration", files, [env["KUBE_ROUTER_CNI_CONF_FILE"]])
        routes = [s["item"]["to"] for s in steps if s["item"]["kind"] == "route" and s["item"]["table"] == 254]
        same(f"{name}: the routes of node-1", routes, ["10.244.2.0/24"])
        same(f"{name}: a service", any(s["item"]["kind"] == "service" for s in steps), True)
        if "livenessProbe" in container:
            lives(name, container, env)
        same("the exit code for a wrong flag", kinglet_plan(args + ["--run-routr=true"], env).returncode, 1)
    tolerates = any(t == {"operator": "Exists"} or t.get("key") == "node.kubernetes.io/not-ready"
                    for t in pod["tolerations"])
    same(f"{name}: it runs where there is no network yet", tolerates, True)
