#!/usr/bin/env python3
"""What the recorded objects amount to, worked out a second time and in another language.

cluster.py table DIR NODE     the IPVS table that NODE must have, one line an entry, sorted
cluster.py change WHAT DIR OUT  the objects of DIR after WHAT happened, written into OUT
"""
import ipaddress
import json
import os
import sys


def items(folder, name):
    with open(os.path.join(folder, name + ".json")) as file:
        return json.load(file)["items"] or []


def served(service):
    """Those that a proxy must serve: https://kubernetes.io/docs/reference/networking/virtual-ips/"""
    labels = service["metadata"].get("labels") or {}
    return (service["spec"]["type"] != "ExternalName"
            and service["spec"].get("clusterIP", "None") not in ("None", "")
            and "service.kubernetes.io/service-proxy-name" not in labels
            and "service.kubernetes.io/headless" not in labels)


def reals(slices, service, port, family, node):
    local = service["spec"].get("internalTrafficPolicy") == "Local"
    of = (service["metadata"]["namespace"], service["metadata"]["name"])
    for piece in slices:
        labels = piece["metadata"].get("labels") or {}
        if (piece["metadata"]["namespace"], labels.get("kubernetes.io/service-name")) != of:
            continue
        if piece["addressType"] != "IPv%d" % family:
            continue
        for at in piece["ports"] or []:
            if (at.get("name") or "", at["protocol"]) != (port.get("name") or "", port["protocol"]):
                continue
            for endpoint in piece["endpoints"] or []:
                ready = endpoint["conditions"].get("ready") is not False
                if ready and (not local or endpoint.get("nodeName") == node):
                    yield at_port(endpoint["addresses"][0], at["port"])


def at_port(address, port):
    return ("[%s]:%d" if ":" in address else "%s:%d") % (address, port)


def table(folder, node):
    slices = items(folder, "endpointslices")
    lines = set()
    for service in filter(served, items(folder, "services")):
        spec = service["spec"]
        persistent = ""
        if spec["sessionAffinity"] == "ClientIP":
            persistent = " persistent %d" % spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        for address in spec.get("clusterIPs") or [spec["clusterIP"]]:
            family = ipaddress.ip_address(address).version
            for port in spec["ports"]:
                at = port["protocol"] + " " + at_port(address, port["port"])
                lines.add(at + " rr" + persistent)
                for real in reals(slices, service, port, family, node):
                    lines.add(at + " -> " + real + " Masq 1")
    return sorted(lines)


def change(what, folder, out):
    os.makedirs(out)
    for name in ("nodes", "services", "endpointslices"):
        with open(os.path.join(folder, name + ".json")) as file:
            everything = json.load(file)
        kept = [item for item in everything["items"] if CHANGES[what](item["metadata"]["name"], item)]
        everything["items"] = kept
        everything["metadata"]["resourceVersion"] = str(int(everything["metadata"]["resourceVersion"]) + 10)
        with open(os.path.join(out, name + ".json"), "w") as file:
            json.dump(everything, file, separators=(",", ":"))


def endpoint_moved(_, item):
    for endpoint in item.get("endpoints") or []:
        if endpoint["addresses"] == ["10.244.2.5"]:
            endpoint.update(addresses=["10.244.1.7"], nodeName="node-2")
            touched(item)
    return True


def podcidr_changed(name, item):
    if name == "node-2":
        item["spec"].update(podCIDR="10.244.9.0/24", podCIDRs=["10.244.9.0/24"])
        touched(item)
    return True


def touched(item):
    item["metadata"]["resourceVersion"] = str(int(item["metadata"]["resourceVersion"]) + 1000)


CHANGES = {
    "service-gone": lambda name, _: name not in ("web", "web-56m2j"),
    "endpoint-moved": endpoint_moved,
    "node-gone": lambda name, _: name != "node-3",
    "podcidr-changed": podcidr_changed,
}

if sys.argv[1] == "table":
    print("\n".join(table(*sys.argv[2:])))
else:
    change(*sys.argv[2:])
