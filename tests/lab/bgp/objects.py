#!/usr/bin/env python3
"""objects.py NODES RECORDED: the NodeList of a lab, its Nodes made after the first recorded one.

NODES is a folder of one file a node: a line each `addresses=A,A`, `cidrs=C,C` and `ANNOTATION=VALUE`.
"""
import json
import os
import sys


def main():
    with open(os.path.join(sys.argv[2], "nodes.json")) as file:
        cluster = json.load(file)
    recorded = cluster["items"][0]
    recorded["metadata"].pop("managedFields", None)
    cluster["items"] = [node(recorded, os.path.join(sys.argv[1], name)) for name in sorted(os.listdir(sys.argv[1]))]
    json.dump(cluster, sys.stdout, separators=(",", ":"))


def node(recorded, path):
    made = json.loads(json.dumps(recorded))
    name = os.path.basename(path)
    with open(path) as file:
        said = dict(line.rstrip("\n").split("=", 1) for line in file)
    cidrs = said.pop("cidrs").split(",")
    addresses = [{"type": "InternalIP", "address": address} for address in said.pop("addresses").split(",")]
    made["metadata"] |= {"name": name, "uid": "lab-" + name, "annotations": said}
    made["metadata"]["labels"]["kubernetes.io/hostname"] = name
    made["spec"] = {"podCIDR": cidrs[0], "podCIDRs": cidrs}
    made["status"]["addresses"] = addresses + [{"type": "Hostname", "address": name}]
    return made


main()
