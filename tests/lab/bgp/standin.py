#!/usr/bin/env python3
"""BIRD in kinglet's place: shows that a scenario is right if kinglet fails it.

standin.py conf NODE OBJECTS FLAGS   a configuration for BIRD 2 that does what kinglet does with these
                                     objects and flags (a file, one a line)
standin.py peers                     `birdc show protocols all` as `kinglet bgp --format json`
"""
import base64
import ipaddress
import json
import os
import re
import sys

KR = "kube-router.io/"


def lists(text):
    return [part for part in (text or "").split(",") if part]


def outside(flags, said):
    """The routers outside: address, AS and password."""
    if "peer-router-ips" in flags:
        ips, asns, keys = (flags.get("peer-router-" + key) for key in ("ips", "asns", "passwords"))
    elif KR + "peers" in said:
        return [(ip, asn, "") for ip, asn in re.findall(r"remoteip: *([^,}\s]+)[,\s]*remoteasn: *(\d+)", said[KR + "peers"])]
    else:
        ips, asns, keys = (said.get(KR + "peer." + key) for key in ("ips", "asns", "passwords"))
    keys = [base64.b64decode(key).decode() for key in (keys or "").split(",")]
    return [(ip, asn, keys[at] if at < len(keys) else "") for at, (ip, asn) in enumerate(zip(lists(ips), lists(asns)))]


def addresses(node):
    return [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]


def conf(name, folder, path):
    with open(os.path.join(folder, "nodes.json")) as file:
        nodes = {node["metadata"]["name"]: node for node in json.load(file)["items"]}
    with open(path) as file:
        flags = dict(line.strip().removeprefix("--").partition("=")[::2] for line in file if line.strip())
    if name not in nodes:
        return "protocol device {}\n"
    own = nodes[name]
    said = own["metadata"]["annotations"]
    four, six = addresses(own)[:2]
    asn = flags.get("cluster-asn", "64512")
    restart = flags.get("bgp-graceful-restart", "false") != "false"
    wait = flags.get("bgp-graceful-restart-time", "90s").removesuffix("s")
    hold = flags.get("bgp-holdtime", "90s").removesuffix("s")
    cluster = said.get(KR + "rr.server")
    if cluster and cluster.isdigit():
        cluster = ipaddress.ip_address(int(cluster))
    own4 = own["spec"]["podCIDR"]
    vips = []
    if "advertise-cluster-ip" in flags:
        with open(os.path.join(folder, "services.json")) as file:
            vips = [s["spec"]["clusterIP"] + "/32" for s in json.load(file)["items"] if s["spec"].get("clusterIP", "None") != "None"]
    lines = [
        f"router id {four};", "log stderr all;", f"graceful restart wait {wait};", "protocol device { scan time 1; }",
        # No default route and nothing of its own comes in; only what begins here, or what is reflected, goes out.
        f"filter come {{ if net.len = 0 || net ~ [ {own4} ] then reject; accept; }}",
    ]
    for family, cidrs in (("ipv4", [c for c in own["spec"]["podCIDRs"] if ":" not in c] + vips),
                          ("ipv6", [c for c in own["spec"]["podCIDRs"] if ":" in c])):
        lines.append(f"protocol static own_{family} {{ {family}; " + " ".join(f"route {c} blackhole;" for c in cidrs) + " }")
        lines.append(f"protocol kernel kernel_{family} {{ {family} {{ import none; export where source = RTS_BGP; }}; "
                     f"persist; graceful restart; merge paths yes; }}")
    actions = ""
    for community in lists(said.get(KR + "node.bgp.communities")):
        actions += f" bgp_community.add(({community.replace(':', ',')}));"
    for _ in range(int(said.get(KR + "path-prepend.repeat-n", 0))):
        actions += f" bgp_path.prepend({said[KR + 'path-prepend.as']});"
    lines += [f"filter outside {{ if source != RTS_STATIC then reject;{actions} accept; }}",
              "filter inside { if source != RTS_STATIC || net.len = 32 then reject; accept; }",
              "filter reflect { if source = RTS_STATIC || source = RTS_BGP then accept; reject; }"]

    def session(peer, address, remote, key, out, extra=""):
        local = six if ":" in address else four
        body = [f"local {local} as {asn}", f"neighbor {address} as {remote}", f"hold time {hold}", "connect retry time 2",
                "connect delay time 1", "error wait time 1, 3", "direct"]
        if remote != asn:
            body.append("enforce first as off")
        if key:
            body.append(f'password "{key}"')
        if restart:
            body += ["graceful restart on", f"graceful restart time {wait}"]
        for family, hop in (("ipv4", four), ("ipv6", six)):
            # A reflector leaves the next hop as it is.
            hops = "" if out == "reflect" else f" next hop address {hop};"
            body.append(f"{family} {{ import filter come; export filter {out};{hops} gateway direct; }}")
        lines.append(f"protocol bgp {peer} {{ " + "; ".join(body) + f"; {extra} }}")

    if flags.get("nodes-full-mesh", "true") != "false" and flags.get("enable-ibgp", "true") != "false":
        for other, node in nodes.items():
            theirs = node["metadata"]["annotations"]
            if other == name or KR + "rr.client" in said and KR + "rr.server" not in theirs:
                continue
            client = cluster and KR + "rr.client" in theirs
            extra = f"rr client; rr cluster id {cluster};" if client else ""
            session(other.replace("-", "_"), addresses(node)[0], asn, "", "reflect" if cluster else "inside", extra)
    for at, (ip, remote, key) in enumerate(outside(flags, said)):
        session(f"outside_{at}", ip, remote, key, "outside")
    return "\n".join(lines) + "\n"


def peers():
    found = []
    for part in re.split(r"\n(?=\S)", sys.stdin.read()):
        address = re.search(r"Neighbor address: +(\S+)", part)
        if not address:
            continue
        state = re.search(r"BGP state: +(\S+)", part)
        error = re.search(r"Last error: +(.*)", part)
        counts = re.findall(r"Routes: +(\d+) imported, (?:\d+ filtered, )?(\d+) exported", part)
        heard = sum(int(count) for count, _ in counts)
        found.append({"addr": address[1], "asn": int(re.search(r"Neighbor AS: +(\d+)", part)[1]), "node": None,
                      "state": state[1] if state else "Idle", "uptime": 0, "received": heard, "accepted": heard,
                      "told": sum(int(count) for _, count in counts), "error": error[1] if error else None})
    print(json.dumps({"peers": found}))


if sys.argv[1] == "peers":
    peers()
else:
    sys.stdout.write(conf(*sys.argv[2:5]))
