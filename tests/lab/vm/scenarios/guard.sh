#!/bin/sh
# A port of a Service address that is not a Service port gives no access to the host; and the node never cuts itself off.
# tier: quick
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

# held SENTENCE EXPECTED NAME: the connection with this name stayed open to its end, in each family.
held() {
  for f in $FAMILIES; do
    same "$1 (IPv$f)" "$2" "$(sed 's/ .*//' "/tmp/$3.$f")"
  done
}

# hold NAME CLIENT ADDRESS PORT SECONDS: holds a connection in the background, in each family.
holding=
hold() {
  for f in $FAMILIES; do
    from "$2" /job/probe hold "$(at "$3" "$f")" "$4" "$5" > "/tmp/$1.$f" 2>&1 & holding="$holding $!"
  done
}

# These connections exist before kinglet changes any node (the first pass of `start` loads its table).
lab_up
serving outside outside 9000
serving node-1 host 22
sleep 0.5
hold out node-1 outside 9000 90
hold in outside node-1 22 90
start
step services <<'END'
web 1 external=1 lb=2 80/tcp@30080 u=53/udp : p1a p2a
empty 2 80 :
own 3 external=192.0.2.12,2001:db8::2 80 : p1a p3a
itp 4 itp=Local 80 : p3a
END
serving node-2 host-2 22
serving node-3 host-3 22
sleep 0.5

t="a listener of the host is not reachable through a Service address"
for n in 1 2 4; do
  refused "$t: ClusterIP, from a pod" p1c cluster:$n 22
  refused "$t: ClusterIP, from the node" node-1 cluster:$n 22
  refused "$t: ClusterIP, from outside" outside cluster:$n 22
done
for n in 1 2; do
  refused "$t: external address, from a pod" p1c external:$n 22
  refused "$t: external address, from outside" outside external:$n 22
done
refused "$t: UDP" p1c cluster:1 22 udp
refused "$t: UDP, from outside" outside external:1 22 udp
refused "the other protocol of a Service port" p1c cluster:1 53
served "the Service itself is served" p1c cluster:1 80 "p1a p2a" p1c
t="the host's own addresses are as they were"
served "$t: from outside" outside node-1 22 host outside
served "$t: from another node" node-2 node-1 22 host node-2
served "$t: from a pod" p1c node-1 22 host
served "$t: from another node's pod" p2b node-1 22 host p2b
served "$t: by itself" node-1 node-1 22 host node-1
served "$t: UDP" outside node-1 22 host outside udp
refused "$t: a port without a listener" outside node-1 23
for f in $FAMILIES; do
  for who in p1c node-1 p2b outside; do
    check "ping to a ClusterIP answers $who (IPv$f)" from $who ping -c 1 -W 2 "$(at cluster:1 "$f")"
    check "ping to a node answers $who (IPv$f)" from $who ping -c 1 -W 2 "$(at node-1 "$f")"
  done
  check "ping to an external address answers (IPv$f)" from outside ping -c 1 -W 2 "$(at external:1 "$f")"
done

t="should be possible to connect to a service via ExternalIP when the external IP is assigned to a node"
served "$t: from outside" outside node-2 80 "p1a p3a"
served "$t: from a pod of that node" p2b node-2 80 "p1a p3a"
served "$t: from that node" node-2 node-2 80 "p1a p3a"
served "$t: from another node" node-1 node-2 80 "p1a p3a"
served "$t: from another node's pod" p1c node-2 80 "p1a p3a"
served "$t: its other ports" outside node-2 22 host-2 outside
served "$t: its other ports, from a pod" p1c node-2 22 host-2
served "$t: its other ports, from another node" node-3 node-2 22 host-2 node-3
served "$t: its other ports, by itself" node-2 node-2 22 host-2 node-2
served "$t: the other nodes" outside node-3 22 host-3 outside
served "$t: its pods" p1c p2a 8080 p2a p1c
refused "$t: not at the other nodes" outside node-3 80
for f in 4 6; do
  for node in node-1 node-3; do
    same "$t: $node does not take it for its own (IPv$f)" "" \
      "$(in_ns $node ip -o addr show to "$(at node-2 $f)")$(in_ns $node ip -"$f" route show table local | grep -wF "$(at node-2 $f)")"
  done
  same "$t: it stays where it was (IPv$f)" eth0 \
    "$(in_ns node-2 ip -o addr show to "$(at node-2 $f)" | sed 's/^[0-9]*: \([^ ]*\).*/\1/')"
done
step gone <<'END'
web 1 80 : p1a p2a
END
served "the Service goes, the node's address stays" outside node-2 22 host-2 outside
refused "the Service goes, its port at the node's address too" outside node-2 80
# shellcheck disable=SC2086
wait $holding
held "a connection of the node, opened before, stays" 91 out
held "a connection to the node, opened before, stays" 91 in
for f in $FAMILIES; do check "the node opens new ones (IPv$f)" from node-1 /job/probe http "$(at outside "$f")" 9000; done
finish
