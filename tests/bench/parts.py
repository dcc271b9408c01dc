"""parts.py BINARY TARGET: prints rows for tests/bench/run with the sizes of the parts of a binary with symbols: the machine code of each crate
(a generic function counts for the crate that defines it), and the other loaded sections."""
import collections
import re
import subprocess
import sys

binary, target = sys.argv[1:]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def crate(name):
    """Returns the crate of a symbol: the first name of its path, or of the path of the type in `<Type as Trait>`."""
    if name.startswith("OUTLINED_FUNCTION"):
        return "outlined"
    if "::" not in name:
        return "ring" if "ring_core" in name or re.match(r"(fe|ge|x25519|p256|p384|sha|aes|chacha|bn|gcm|ecp)_?", name) else "musl"
    path = re.match(r"[<&*\[(]*(?:mut |const |dyn )?([a-z_0-9]+)::", name)
    return path[1] if path else "(no path)"


sizes, seen = collections.Counter(), set()
for line in run("nm", "--size-sort", "--print-size", "--demangle", binary).splitlines():
    address, size, kind, name = line.split(" ", 3)
    if kind in "tTwW" and address not in seen:  # counts a function with several names once
        seen.add(address)
        sizes[crate(name)] += int(size, 16)
for line in run("readelf", "-SW", binary).splitlines():
    section = re.match(r" +\[ *\d+\] (\.\S+) +(\S+) +\S+ +\S+ +(\S+) +\S+ +(\S*A\S*) ", line)
    if section and section[2] != "NOBITS":
        name, size = section[1], int(section[3], 16)
        if name == ".text":
            sizes["(no symbol)"] += max(0, size - sum(sizes[part] for part in list(sizes) if not part.startswith(".")))
        else:
            sizes[name] += size
rest = 0
for part, size in sizes.most_common():
    if size < 4096:
        rest += size
    else:
        print(target, "part:" + part.replace(" ", "_"), size, "bytes")
print(target, "part:less_than_4_KiB", rest, "bytes")
