#!/usr/bin/env bash
# Graceful restart (RFC 4724) in both roles: kinglet and the router are killed and started again while pods are pinging.
# tier: long
#
#   pod-1 - node-1 ---- node-2 - pod-2     AS 64512, routes by BGP alone
#                 \    /
#                 router                   192.0.2.201, AS 65001: BIRD, with 203.0.113.1
#
# shellcheck source=SCRIPTDIR/../network.sh
. "${0%/*}/../network.sh"

lab_up
node_up 1; node_up 2
host_up router 201
ip -n router addr add 203.0.113.1/32 dev lo
api_up
pod_add node-1 1 pod-1 2
pod_add node-2 2 pod-2 2
cat > "$LAB/router/conf" << CONF
router id 192.0.2.201;
log stderr all;
graceful restart wait 15;
protocol device {}
protocol static { ipv4; route 203.0.113.0/24 blackhole; }
protocol kernel { ipv4 { export where source = RTS_BGP; }; persist; graceful restart; }
template bgp kube {
  local 192.0.2.201 as 65001;
  direct; connect delay time 1; connect retry time 2; error wait time 1, 3; hold time 30;
  graceful restart on; graceful restart time 8;
  ipv4 { import all; export where source = RTS_STATIC; };
}
protocol bgp node_1 from kube { neighbor 192.0.2.11 as 64512; }
protocol bgp node_2 from kube { neighbor 192.0.2.12 as 64512; }
CONF
bird_up router "$LAB/router/conf"
for node in node-1 node-2; do
  speaker $node --routes=bgp --bgp-graceful-restart=true --bgp-graceful-restart-time=8s \
    --peer-router-ips=192.0.2.201 --peer-router-asns=65001
done

up() {
  established node-1 192.0.2.12 192.0.2.201 && established node-2 192.0.2.11 192.0.2.201 &&
    routed node-1 10.244.2.0/24 192.0.2.12 && routed node-2 10.244.1.0/24 192.0.2.11 &&
    routed node-1 203.0.113.0/24 192.0.2.201 && routed node-2 203.0.113.0/24 192.0.2.201 &&
    ip -n router route show 10.244.1.0/24 | grep -q 192.0.2.11 && ip -n router route show 10.244.2.0/24 | grep -q 192.0.2.12
}
pings() { in_ns pod-1 ping -q -c 3 -i 0.2 -W 1 10.244.2.2 && in_ns pod-1 ping -q -c 3 -i 0.2 -W 1 203.0.113.1; }
within 30 "all sessions are up, and all routes there" up
within 5 "a pod reaches a pod on the other node, and the outside" pings
# The first updates of each side, with End-of-RIB, have been sent.
sleep 2

# pinging: starts a ping. unbroken SENTENCE: ends it, and each packet was answered.
pinging() {
  in_ns pod-1 ping -q -i 0.05 -W 1 10.244.2.2 > "$LAB/inside" 2>&1 &
  in_ns pod-2 ping -q -i 0.05 -W 1 203.0.113.1 > "$LAB/outside" 2>&1 &
}
unbroken() {
  local file lost=
  pkill -INT -x ping; sleep 1.5
  for file in "$LAB/inside" "$LAB/outside"; do
    grep -q ' 0% packet loss' "$file" || lost+=" $(basename "$file"): $(grep loss "$file")"
  done
  same "$1: no ping is lost" "" "$lost"
}

pinging
ended node-2 KILL
within 5 "node-2 is killed, and node-1 has noticed" down node-1 192.0.2.12
check "node-1 keeps the route to its pods" routed node-1 10.244.2.0/24 192.0.2.12
check "node-2's kernel keeps its routes" routed node-2 10.244.1.0/24 192.0.2.11
sleep 2
speaker_again node-2
within 20 "it is back" up
sleep 3
check "and all is there still" up
unbroken "node-2 killed and started again"

pinging
ended router KILL
within 5 "the router is killed, and node-1 has noticed" down node-1 192.0.2.201
check "its routes stay" routed node-1 203.0.113.0/24 192.0.2.201
sleep 2
bird_up router "$LAB/router/conf" -R
within 20 "it is back" up
sleep 3
check "and all is there still" up
unbroken "the router killed and started again"

ended router KILL
within 5 "the router is killed for good" down node-1 192.0.2.201
sleep 4
check "its routes are there after 4 s" routed node-1 203.0.113.0/24 192.0.2.201
within 7 "and gone after its restart time of 8 s" routed node-1 203.0.113.0/24
check "the nodes' own stay" routed node-1 10.244.2.0/24 192.0.2.12

ended node-2 KILL
sleep 4
check "node-2 is killed for good: its route is there after 4 s" routed node-1 10.244.2.0/24 192.0.2.12
within 7 "and gone after its restart time of 8 s" routed node-1 10.244.2.0/24

# A node that starts while its peers are away keeps its learned routes for the restart time.
bird_up router "$LAB/router/conf"
speaker_again node-2
within 20 "both are back" up
ended router KILL; ended node-2 KILL; ended node-1 KILL
speaker_again node-1
sleep 4
check "node-1 starts alone: it keeps what it had, 4 s after" routed node-1 203.0.113.0/24 192.0.2.201
check "and of the other node" routed node-1 10.244.2.0/24 192.0.2.12
within 10 "the restart time ends, and that with it" routed node-1 203.0.113.0/24
check "and of the other node too" routed node-1 10.244.2.0/24
finish
