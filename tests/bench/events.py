"""events.py FOLDER: writes requests that change a generated cluster, one file each, into the folder of its lists. change-1 and change-2 set
another address of the first endpoint of a slice. service-gone deletes the Service of this slice, and service-there restores it. node-gone and
node-there do the same with the last node."""
import json
import pathlib
import sys

folder = pathlib.Path(sys.argv[1])


def items(name):
    return json.loads((folder / f"{name}.json").read_text())["items"]


def request(name, method, path, item=None):
    body = json.dumps(item, separators=(",", ":")) if item else ""  # the format of the API server
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    (folder / name).write_text(head + body)


part = next(item for item in items("endpointslices") if item["addressType"] == "IPv4" and len(item["endpoints"]) > 1)
namespace, name = part["metadata"]["namespace"], part["metadata"]["labels"]["kubernetes.io/service-name"]
service = next(item for item in items("services") if (item["metadata"]["namespace"], item["metadata"]["name"]) == (namespace, name))
node = items("nodes")[-1]

for number in 1, 2:
    part["endpoints"][0]["addresses"] = [f"10.255.255.{number}"]
    request(f"change-{number}", "PUT", f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{part['metadata']['name']}", part)
for what, path, item in ("service", f"/api/v1/namespaces/{namespace}/services/{name}", service), ("node", f"/api/v1/nodes/{node['metadata']['name']}", node):
    request(f"{what}-there", "PUT", path, item)
    request(f"{what}-gone", "DELETE", path)
