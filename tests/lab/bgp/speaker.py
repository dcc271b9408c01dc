#!/usr/bin/env python3
"""Many BGP speakers, or misbehaving ones, with as much of RFC 4271 as the scenarios need.

speaker.py feed ADDRESS ASN FIRST COUNT PREFIXES   from COUNT addresses, from 192.0.2.FIRST on, a session
        each of AS ASN, which announces PREFIXES networks /24 of its own; runs until it is killed
speaker.py knock ADDRESS TIMES   connects and listens: prints how often it received an OPEN
speaker.py open ADDRESS ASN SECONDS   connects and sends an OPEN each millisecond; prints how many
speaker.py half ADDRESS SECONDS  SYNs that are never followed up, from addresses that no host has
speaker.py idle ADDRESS COUNT SECONDS   connects COUNT times and sends nothing
"""
import ipaddress
import os
import random
import selectors
import socket
import struct
import sys
import time


def message(kind, body=b""):
    return b"\xff" * 16 + struct.pack(">HB", 19 + len(body), kind) + body


def opening(asn, ident):
    four = struct.pack(">BBI", 65, 4, asn) + struct.pack(">BBHBB", 1, 4, 1, 0, 1)
    return message(1, struct.pack(">BHH4sBBB", 4, asn if asn < 65536 else 23456, 90, socket.inet_aton(ident),
                                  len(four) + 2, 2, len(four)) + four)


def update(asn, hop, nets):
    path = struct.pack(">BBI", 2, 1, asn)
    attributes = (struct.pack(">BBBB", 0x40, 1, 1, 0) + struct.pack(">BBB", 0x40, 2, len(path)) + path
                  + struct.pack(">BBB", 0x40, 3, 4) + socket.inet_aton(hop))
    nlri = b"".join(b"\x18" + net.network_address.packed[:3] for net in nets)
    return message(2, struct.pack(">HH", 0, len(attributes)) + attributes + nlri)


def feed(address, asn, first, count, prefixes):
    asn, first, count, prefixes = map(int, (asn, first, count, prefixes))
    base = int(ipaddress.ip_address("20.0.0.0"))
    nets = [ipaddress.ip_network((base + 256 * i, 24)) for i in range(count * prefixes)]
    ready = selectors.DefaultSelector()
    for at in range(count):
        own = "192.0.2.%d" % (first + at)
        link = connect(address, own)
        # BIRD's backlog is 8: each further connection at a time takes a second, which is not a measure of routes.
        time.sleep(0.005)
        link.sendall(opening(asn, own))
        link.setblocking(False)
        ready.register(link, selectors.EVENT_READ, [own, nets[at * prefixes:(at + 1) * prefixes], b""])
    beat = time.monotonic()
    while True:
        for key, _ in ready.select(1):
            try:
                data = key.fileobj.recv(65536)
            except OSError:
                data = b""
            if not data:
                print("feed:", key.data[0], "was closed", file=sys.stderr, flush=True)
                ready.unregister(key.fileobj)
                continue
            key.data[2] += data
            while len(key.data[2]) >= 19:
                size, kind = struct.unpack(">HB", key.data[2][16:19])
                if len(key.data[2]) < size:
                    break
                body, key.data[2] = key.data[2][19:size], key.data[2][size:]
                key.fileobj.setblocking(True)
                if kind == 1:
                    key.fileobj.sendall(message(4))
                elif kind == 3:
                    print("feed:", key.data[0], "got", body.hex(), file=sys.stderr, flush=True)
                elif kind == 4 and key.data[1] is not None:
                    for part in range(0, len(key.data[1]), 800):
                        key.fileobj.sendall(update(asn, key.data[0], key.data[1][part:part + 800]))
                    key.fileobj.sendall(message(2, bytes(4)))
                    key.data[1] = None
                key.fileobj.setblocking(False)
        if time.monotonic() - beat > 20:
            beat = time.monotonic()
            for key in list(ready.get_map().values()):
                key.fileobj.sendall(message(4))


def connect(address, own=None, wait=3):
    link = socket.socket()
    link.settimeout(wait)
    if own:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link.bind((own, 0))
    end = time.monotonic() + 30
    while True:
        try:
            link.connect((address, 179))
            return link
        except ConnectionRefusedError:
            if not own or time.monotonic() > end:
                raise
            time.sleep(0.1)


def knock(address, times):
    heard = 0
    for _ in range(int(times)):
        try:
            with connect(address, wait=1) as link:
                heard += link.recv(19)[18:19] == b"\x01"
        except OSError:
            pass
    print(heard)


def open_(address, asn, seconds):
    sent, end = 0, time.monotonic() + float(seconds)
    last = []
    while time.monotonic() < end:
        try:
            link = connect(address, wait=0.2)
            link.sendall(opening(int(asn), "192.0.2.99"))
            sent += 1
            last.append(link)
        except OSError:
            pass
        if len(last) > 20:
            last.pop(0).close()
        time.sleep(0.001)
    print(sent)


def total(data):
    data += bytes(len(data) % 2)
    much = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while much >> 16:
        much = (much & 0xffff) + (much >> 16)
    return ~much & 0xffff


def half(address, seconds):
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    to, sent, end = socket.inet_aton(address), 0, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        of = socket.inet_aton("192.0.2.%d" % random.randrange(230, 249))
        head = [random.randrange(1024, 65535), 179, random.getrandbits(32), 0, 5 << 4, 2, 64240, 0, 0]
        head[7] = total(of + to + struct.pack(">BBH", 0, 6, 20) + struct.pack(">HHIIBBHHH", *head))
        raw.sendto(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, sent & 0xffff, 0, 64, 6, 0, of, to)
                   + struct.pack(">HHIIBBHHH", *head), (address, 0))
        sent += 1
        if sent % 20 == 0:
            time.sleep(0.002)
    print(sent)


def idle(address, count, seconds):
    links = []
    for _ in range(int(count)):
        try:
            links.append(connect(address, wait=0.5))
        except OSError:
            pass
    print(len(links), flush=True)
    time.sleep(float(seconds))
    os._exit(0)


{"feed": feed, "knock": knock, "open": open_, "half": half, "idle": idle}[sys.argv[1]](*sys.argv[2:])
