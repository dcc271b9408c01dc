"""table.py FOLDER [--plot]: prints the measurements of tests/bench/run (FOLDER/rows: SIZE MEASURE VALUE UNIT) as tables, and writes them to
FOLDER/bench.json. Each figure is the median of its runs, with half of their spread if there are several. --plot draws each measure over the
number of endpoints, as FOLDER/*.svg."""
import collections
import json
import math
import pathlib
import statistics
import sys

folder = pathlib.Path(sys.argv[1])
rows = collections.defaultdict(list)
units = {}
for line in (folder / "rows").read_text().splitlines():
    size, what, value, unit = line.split()
    rows[size, what].append(float(value))
    units[what] = unit
sizes = list(dict.fromkeys(size for size, _ in rows))


def median(size, what):
    values = rows.get((size, what))
    return statistics.median(values) if values else None


def number(value):
    if value is None:
        return "-"
    if value >= 1e6:
        return f"{value / 1e6:,.3g} M" if value < 1e9 else f"{value / 1e6:,.0f} M"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figure(size, what):
    value, values = median(size, what), rows.get((size, what), [])
    spread = f" ± {50 * (max(values) - min(values)) / value:.0f} %" if len(values) > 1 and value else ""
    return number(value) + spread


def ratio(size, what, peer):
    return number(median(size, what) / median(size, peer)) if median(size, peer) else "-"


def routes(size, what="kernel"):
    """Returns the time for the routes alone: a sync less a plan. `None` if it was not measured."""
    sync, plan = median(size, "sync-routes"), median(size, "plan-routes")
    return None if sync is None else sync - plan


def table(title, columns, of=("small", "middle", "large")):
    """Prints a table. A column is a head and a measure, or a head and a function from a size to the text of a cell."""
    shown = [size for size in of if any((size, what) in rows for _, what in columns if isinstance(what, str))]
    if not shown:
        return
    print(f"\n{title}\n")
    print("| | " + " | ".join(f"{head} ({units[what]})" if what in units else head for head, what in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for size in shown:
        cells = (figure(size, what) if isinstance(what, str) else what(size) for _, what in columns)
        print(f"| {size} | " + " | ".join(cells) + " |")


table("Peak memory, and wake-ups of the daemon", [
    ("first `sync`", "first-peak"), ("`sync` without steps", "again-peak"), ("daemon", "daemon-peak"),
    ("idle daemon", "daemon-rss"), ("wake-ups when idle, BGP off", "daemon-wakes"),
    ("wake-ups when no node of the BGP mesh answers", "daemon-wakes-mesh")])
table("An empty node, in virtual time: `sync` (IPVS, routes, addresses, nftables) beside `ipvsadm --restore` of the same services", [
    ("entries of ipvsadm", "ipvsadm-entries"), ("`sync`", "fill-instructions"),
    ("`ipvsadm --restore`", "ipvsadm-restore-instructions"),
    ("ratio", lambda size: ratio(size, "fill-instructions", "ipvsadm-restore-instructions")),
    ("`sync`, with the API server on the same processor", "fill"), ("`ipvsadm --restore`", "ipvsadm-restore"),
    ("the kernel alone, for the same messages", "fill-kernel"), ("bytes of these messages", "fill-netlink")])
table("Time from the start of a process, in virtual time", [
    ("to the first route", "fill-first"), ("to the last Service", "fill"), ("from the snapshot, without the API, to the first route", "from-snapshot-first"),
    ("to the last Service", "from-snapshot"), ("a `sync` that writes the snapshot", "written")])
for what, title in ("event", "One endpoint changes"), ("added", "One Service is added"), ("gone", "One node is removed"):
    table(f"{title}, in virtual time", [
        ("from the event to the kernel", what), ("instructions", f"{what}-instructions"), ("system calls", f"{what}-calls"),
        ("netlink, both ways", f"{what}-netlink")] + [("adding and removing a real server by `ipvsadm`", "ipvsadm-change")] * (what == "event"))
table("A `sync` without changes, in virtual time", [
    ("time", "again"), ("instructions", "again-instructions"), ("system calls", "again-calls"), ("from the API", "again-bytes"),
    ("steps", "again-steps")])
table("The daemon without changes", [
    ("one poll: instructions", "poll-instructions"), ("system calls", "poll-calls"), ("from the API", "poll-api"),
    ("one full audit: instructions", "audit-instructions"), ("system calls", "audit-calls"), ("netlink", "audit-netlink"), ("longest pass", "audit-pass")])
table("Sequential requests through a ClusterIP, in virtual time, beside requests directly to an endpoint", [
    ("ClusterIP", "vip-requests"), ("endpoint", "real-requests"), ("ratio", lambda size: ratio(size, "vip-requests", "real-requests")),
    ("ClusterIP, median", "vip-latency"), ("endpoint, median", "real-latency")])
table("Routes to all nodes, on this kernel: the time of a `sync` less the time of a `plan`", [
    ("routes", "routes"), ("kinglet", lambda size: number(routes(size))), ("`ip -batch`", "ip-batch"),
    ("ratio", lambda size: number(routes(size) / median(size, "ip-batch"))),
    ("the kernel alone, for the same messages", "routes-kernel"), ("BIRD, from its start", "bird-routes"),
    ("`sync`, from its start", "sync-routes"), ("`sync` without steps", "again-routes")],
    of=[size for size in sizes if size.endswith("-nodes")])
table("Without a kernel: reading all lists from the API, and computing the desired state of a node (from a dump)", [
    ("read", "read"), ("read, time", "read-time"), ("plan", "plan"), ("plan, time", "plan-time"),
    ("from the API", "api-bytes"), ("without gzip", "api-plain"), ("ratio", lambda size: ratio(size, "api-plain", "api-bytes"))])
table("BGP: sessions x networks per session, into this kernel, beside BIRD", [
    ("converged", "kinglet-converged"), ("BIRD", "bird-converged"), ("CPU", "kinglet-cpu"), ("BIRD", "bird-cpu"),
    ("memory", "kinglet-memory"), ("BIRD", "bird-memory")], of=[size for size in sizes if "x" in size])
for target in (size for size in sizes if (size, "binary") in rows):
    print(f"\n{target}: {number(median(target, 'binary'))} bytes\n\n| part | bytes |\n|---|---|")
    for size, what in rows:
        if size == target and what.startswith("part:"):
            print(f"| {what[5:].replace('_', ' ')} | {number(median(size, what))} |")

measured = [{"size": size, "what": what, "unit": units[what], "median": median(size, what), "runs": runs}
            for (size, what), runs in rows.items()]
(folder / "bench.json").write_text(json.dumps(measured, indent=1) + "\n")

ENDPOINTS = {"small": 500, "middle": 10_000, "large": 50_000}
COLOURS = ["#1b6ca8", "#d1495b", "#3c8d53", "#8a5fbf", "#c98a1b"]


def plot(name, title, lines):
    """Draws lines on two logarithmic axes: a measure over the number of endpoints."""
    wide, high, left, top, right, bottom = 640, 360, 70, 40, 190, 40
    points = {head: [(ENDPOINTS[size], median(size, what)) for size in ENDPOINTS if median(size, what)] for head, what in lines}
    points = {head: line for head, line in points.items() if line}
    if not points:
        return
    values = [y for line in points.values() for _, y in line]
    low, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    most = max(most, low + 1)
    first, last = math.log10(min(ENDPOINTS.values())), math.log10(max(ENDPOINTS.values()))

    def x(value):
        return left + (math.log10(value) - first) / (last - first) * (wide - left - right)

    def y(value):
        return top + (most - math.log10(value)) / (most - low) * (high - top - bottom)

    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>', f'<text x="{left}" y="20" font-size="14">{title}</text>']
    for power in range(low, most + 1):
        at = y(10 ** power)
        svg.append(f'<path d="M{left} {at:.1f}H{wide - right}" stroke="#ddd"/>')
        svg.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{10 ** power:,g}</text>')
    for count in ENDPOINTS.values():
        svg.append(f'<text x="{x(count):.1f}" y="{high - bottom + 18}" text-anchor="middle">{count:,}</text>')
    svg.append(f'<text x="{(left + wide - right) / 2}" y="{high - 6}" text-anchor="middle">endpoints</text>')
    for at, (head, line) in enumerate(points.items()):
        colour = COLOURS[at % len(COLOURS)]
        path = "L".join(f"{x(count):.1f} {y(value):.1f}" for count, value in line)
        svg.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        svg.extend(f'<circle cx="{x(count):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for count, value in line)
        svg.append(f'<text x="{wide - right + 10}" y="{top + 16 + 18 * at}" fill="{colour}">{head}</text>')
    (folder / f"{name}.svg").write_text("\n".join(svg) + "\n</svg>\n")


if "--plot" in sys.argv:
    plot("memory", "Memory at its peak (KiB)", [
        ("first sync", "first-peak"), ("sync, nothing to do", "again-peak"), ("daemon", "daemon-peak"), ("daemon at rest", "daemon-rss")])
    plot("time", "Virtual time (ms)", [
        ("sync, from nothing", "fill"), ("ipvsadm --restore", "ipvsadm-restore"), ("the kernel alone", "fill-kernel"),
        ("from the snapshot", "from-snapshot"), ("sync, nothing to do", "again")])
    plot("event", "From an event to the kernel (ms)", [
        ("one endpoint changed", "event"), ("one Service added", "added"), ("one node gone", "gone"), ("by ipvsadm", "ipvsadm-change")])
    plot("instructions", "Instructions, the kernel's among them", [
        ("sync, from nothing", "fill-instructions"), ("sync, nothing to do", "again-instructions"), ("one audit of all", "audit-instructions"),
        ("one endpoint changed", "event-instructions"), ("one poll", "poll-instructions")])
wrong = [size for size in sizes if median(size, "again-steps")]
sys.exit(f"a second pass changed something: {', '.join(wrong)}" if wrong else 0)
