#!/usr/bin/env python3
"""Computes the expected state of the recorded cluster independently of kinglet, in another language.

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
    """The Services that a proxy must serve: https://kubernetes.io/docs/reference/networking/virtual-ips/"""
    labels = service["metadata"].get("labels") or {}
    return (service["spec"]["type"] != "ExternalName"
            and service["spec"].get("clusterIP", "None") not in ("None", "")
            and "service.kubernetes.io/service-proxy-name" not in labels
            and "service.kubernetes.io/headless" not in labels)


def endpoints(slices, service, port, family):
    """Each endpoint of a port: address and port, node, and conditions."""
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
                conditions = endpoint["conditions"]
                ready = conditions.get("ready") is not False
                hints = endpoint.get("hints") or {}
                yield {"real": at_port(endpoint["addresses"][0], at["port"]), "node": endpoint.get("nodeName"),
                       "ready": ready, "last": conditions.get("serving", ready) and conditions.get("terminating"),
                       "zones": [h["name"] for h in hints.get("forZones") or []],
                       "nodes": [h["name"] for h in hints.get("forNodes") or []]}


def near(ready, node, zone):
    """Topology hints count only if every ready endpoint has them and one is for this node."""
    for kind, name in (("nodes", node), ("zones", zone)):
        meant = [e for e in ready if name in e[kind]]
        if all(e[kind] for e in ready) and meant:
            return meant
    return ready


def choices(found, node, zone):
    """The real servers with a Cluster policy, and with a Local one."""
    def usable(among):
        ready = [e for e in among if e["ready"]]
        return ready or [e for e in among if e["last"]]
    cluster = usable(found)
    if any(e["ready"] for e in found):
        cluster = near(cluster, node, zone)
    local = usable([e for e in found if e["node"] == node])
    return [sorted({e["real"] for e in chosen}) for chosen in (cluster, local)]


def at_port(address, port):
    return ("[%s]:%d" if ":" in address else "%s:%d") % (address, port)


def fronts(service, addresses):
    """The addresses of a Service, each with its policy."""
    spec, status = service["spec"], service.get("status") or {}
    for port in spec["ports"]:
        for address in spec.get("clusterIPs") or [spec["clusterIP"]]:
            yield address, port["port"], port, False
        ingress = (status.get("loadBalancer") or {}).get("ingress") or []
        balancers = [i["ip"] for i in ingress if i.get("ip") and i.get("ipMode") != "Proxy"]
        for address in (spec.get("externalIPs") or []) + balancers:
            yield address, port["port"], port, True
        if port.get("nodePort"):
            for address in addresses:
                yield address, port["nodePort"], port, True


def scheduler(service):
    notes = service["metadata"].get("annotations") or {}
    name = notes.get("kube-router.io/service.scheduler", "rr")
    flags = notes.get("kube-router.io/service.schedflags", "") if name == "mh" else ""
    words = [{"flag-1": "mh-fallback", "flag-2": "mh-port"}[flag] for flag in flags.split(",") if flag]
    return name + (" (" + ",".join(words) + ")" if words else "")


def table(folder, node):
    slices = items(folder, "endpointslices")
    own = next((n for n in items(folder, "nodes") if n["metadata"]["name"] == node), None)
    if own is None:
        return []
    zone = own["metadata"].get("labels", {}).get("topology.kubernetes.io/zone")
    internal = [a["address"] for a in own["status"]["addresses"] if a["type"] == "InternalIP"]
    families = {ipaddress.ip_address(a).version: a for a in reversed(internal)}
    lines = []
    for service in filter(served, items(folder, "services")):
        spec = service["spec"]
        how = " " + scheduler(service)
        if spec["sessionAffinity"] == "ClientIP":
            how += " persistent %d" % spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        for address, number, port, external in fronts(service, families.values()):
            family = ipaddress.ip_address(address).version
            cluster, local = choices(list(endpoints(slices, service, port, family)), node, zone)
            inside = local if not external and spec.get("internalTrafficPolicy") == "Local" else cluster
            entries = [(port["protocol"] + " " + at_port(address, number), inside)]
            # Clients outside have an entry of their own, by a mark, if they have other endpoints.
            if external and spec.get("externalTrafficPolicy") == "Local" and local and local != cluster:
                entries.append(("FWM", local))
            for at, real_servers in entries:
                lines.append(at + how)
                lines.extend(at + " -> " + real + " Masq 1" for real in real_servers)
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
