#!/usr/bin/env python3
"""Makes the lists of the API server from the texts in the scenarios of the service proxy.

steps.py NODES OUT SCENARIO.sh...   OUT/SCENARIO/STEP/*.json, one folder for each `step STEP <<'END'` (or `text`)

Each line of such a text is a Service with its endpoints:

  NAME NUMBER [KEY=VALUE]... PORT... : ENDPOINT... [/ ENDPOINT...]

NUMBER    makes its addresses: 10.96.1.NUMBER and fd00:10:96::1NUMBER (of three digits); FIRST..LAST makes a Service
          NAME-NUMBER for each number
PORT      [NAME=]80[/udp][>8081][@30080]: port (or FIRST..LAST), protocol, target (8080), node port
KEY       type, etp, itp, affinity (seconds), label (KEY:VALUE), ranges (CIDR,...), families (4, 6 or 46),
          health (a healthCheckNodePort);
          external, lb, proxy (an ingress of ipMode Proxy): addresses, or a number for 203.0.113.NUMBER
          and 2001:db8:cb::NUMBER
ENDPOINT  p2a is the first pod of node-2, node-2 the node itself; then ! not ready, ~ terminating (still
          serving, with ! not), ? no condition; @zone-0 or @node-2: a hint. Each / starts a slice.
"""
import ipaddress
import json
import os
import re
import sys
import uuid


def main(nodes, out, *scenarios):
    with open(nodes) as file:
        nodes = json.load(file)
    keep(os.path.join(out, "empty"), nodes, [], [])
    for path in scenarios:
        with open(path) as file:
            text = file.read()
        before = {}
        for name, lines in re.findall(r"^ *(?:step|text) (\S+) <<'END'\n(.*?)^END$", text, re.M | re.S):
            services, slices = [], []
            for line in filter(None, map(str.strip, lines.splitlines())):
                for service, behind in parsed(line):
                    services.append(service)
                    slices += behind
            for item in services + slices:
                numbered(item, before)
            scenario = os.path.splitext(os.path.basename(path))[0]
            keep(os.path.join(out, scenario, name), nodes, services, slices)


def parsed(line):
    words, _, endpoints = line.partition(" :")
    name, numbers, *words = words.split()
    keys = dict(word.split("=", 1) for word in words if word.split("=")[0] in KEYS)
    ports = [port for word in words if word.split("=")[0] not in KEYS for port in ports_of(word)]
    families = [int(digit) for digit in keys.get("families", "46")]
    first, _, last = numbers.partition("..")
    for number in range(int(first), int(last or first) + 1):
        one = "%s-%d" % (name, number) if last else name
        yield (service_of(one, number, keys, ports, families),
               [slice_of(one, at, family, piece.split(), ports)
                for at, piece in enumerate(endpoints.split("/")) for family in families])


KEYS = ("type", "etp", "itp", "affinity", "label", "ranges", "families", "external", "lb", "proxy", "health")


def ports_of(word):
    name, first, last, protocol, target, node = re.fullmatch(
        r"(?:([a-z0-9-]+)=)?(\d+)(?:\.\.(\d+))?(?:/(\w+))?(?:>(\d+))?(?:@(\d+))?", word).groups()
    for port in range(int(first), int(last or first) + 1):
        yield {"name": name or ("port-%d" % port if last else ""), "port": port,
               "protocol": (protocol or "tcp").upper(), "target": int(target or 8080), "node": int(node or 0)}


def service_of(name, number, keys, ports, families):
    ips = [address(number, family, "10.96.1.%d", "fd00:10:96::1%03d") for family in families]
    ingress = [{"ip": ip, "ipMode": mode} for key, mode in (("lb", "VIP"), ("proxy", "Proxy"))
               for ip in addresses(keys.get(key, ""), families)]
    kind = keys.get("type") or ("LoadBalancer" if ingress else
                                "NodePort" if any(port["node"] for port in ports) else "ClusterIP")
    spec = {"type": kind, "sessionAffinity": "None"}
    if kind == "ExternalName":
        spec["externalName"] = "elsewhere.example.com"
    else:
        spec.update(clusterIP=ips[0], clusterIPs=ips, ipFamilies=["IPv%d" % family for family in families],
                    ipFamilyPolicy="PreferDualStack" if len(ips) > 1 else "SingleStack",
                    internalTrafficPolicy=keys.get("itp", "Cluster"))
        spec["ports"] = [dict(clean(name=port["name"], nodePort=port["node"]), protocol=port["protocol"],
                              port=port["port"], targetPort=port["target"]) for port in ports]
    if kind in ("NodePort", "LoadBalancer") or "external" in keys:
        spec["externalTrafficPolicy"] = keys.get("etp", "Cluster")
    if "affinity" in keys:
        spec.update(sessionAffinity="ClientIP",
                    sessionAffinityConfig={"clientIP": {"timeoutSeconds": int(keys["affinity"])}})
    if "external" in keys:
        spec["externalIPs"] = addresses(keys["external"], families)
    if "health" in keys:
        spec["healthCheckNodePort"] = int(keys["health"])
    if "ranges" in keys:
        spec["loadBalancerSourceRanges"] = keys["ranges"].split(",")
    return {"metadata": metadata(name, dict([keys["label"].split(":")]) if "label" in keys else {}),
            "spec": spec, "status": {"loadBalancer": clean(ingress=ingress)}}


def slice_of(name, at, family, words, ports):
    return {"metadata": metadata("%s-%d-ipv%d" % (name, at, family), {"kubernetes.io/service-name": name}),
            "addressType": "IPv%d" % family,
            "endpoints": [endpoint(word, family) for word in words],
            "ports": [{"name": port["name"], "protocol": port["protocol"], "port": port["target"]}
                      for port in ports]}


def endpoint(word, family):
    at, state, hint = re.fullmatch(r"([a-z0-9-]+)([!~?]*)(?:@(.+))?", word).groups()
    terminating, refuses = "~" in state, "!" in state
    conditions = {"ready": not refuses and not terminating, "serving": not refuses, "terminating": terminating}
    pod = re.fullmatch(r"p(\d)([a-z])", at)
    node = "node-" + pod[1] if pod else at
    if pod:
        place, host = int(pod[1]) - 1, ord(pod[2]) - ord("a") + 2
        ip = "10.244.%d.%d" % (place, host) if family == 4 else "fd00:10:244:%x::%x" % (place, host)
    else:
        ip = ("192.0.2.1%s" if family == 4 else "2001:db8::%s") % at[-1]
    hints = {("forNodes" if hint.startswith("node") else "forZones"): [{"name": hint}]} if hint else None
    return dict(clean(hints=hints), addresses=[str(ipaddress.ip_address(ip))], nodeName=node,
                conditions={} if "?" in state else conditions)


def addresses(words, families):
    return [address(int(word), family, "203.0.113.%d", "2001:db8:cb::%d") if word.isdigit() else word
            for word in filter(None, words.split(",")) for family in (families if word.isdigit() else [0])]


def address(number, family, four, six):
    return (four if family == 4 else six) % number


def clean(**some):
    return {key: value for key, value in some.items() if value}


def metadata(name, labels):
    return {"name": name, "namespace": "test", "uid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
            "creationTimestamp": "2026-11-23T22:00:00Z", "labels": labels}


def numbered(item, before, counter=[1000]):
    """An object that did not change keeps its resourceVersion."""
    text = json.dumps(item, sort_keys=True)
    key = (item["metadata"]["name"], "spec" in item)
    if before.get(key, ("", 0))[0] != text:
        counter[0] += 1
        before[key] = (text, str(counter[0]))
    item["metadata"]["resourceVersion"] = before[key][1]


def keep(folder, nodes, services, slices):
    newest = max([int(nodes["metadata"]["resourceVersion"])] +
                 [int(item["metadata"]["resourceVersion"]) for item in services + slices])
    os.makedirs(folder)
    for name, kind, version, items in (("services", "ServiceList", "v1", services),
                                       ("endpointslices", "EndpointSliceList", "discovery.k8s.io/v1", slices),
                                       ("nodes", "NodeList", "v1", nodes["items"])):
        with open(os.path.join(folder, name + ".json"), "w") as file:
            json.dump({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": str(newest)},
                       "items": items}, file, separators=(",", ":"))


main(*sys.argv[1:])
