#!/usr/bin/env bash
# A peer is cut off without a message: routes that only this peer announced are removed within the hold time, with BFD within 1 s.
# tier: long
#
#   node-1 ---- node-2      AS 64512, hold time 3 s
#         \    /
#   router-1  router-2      192.0.2.201 .202, AS 65001: BIRD. Both have 203.0.113.0/24, one has 198.51.100.0/24
#
# shellcheck source=SCRIPTDIR/../network.sh
. "${0%/*}/../network.sh"

lab_up
node_up 1; node_up 2
api_up
conf() { # N [MORE]
  local n=$1
  cat << CONF
router id 192.0.2.20$n;
log stderr all;
protocol device {}
protocol static { ipv4; route 203.0.113.0/24 blackhole; $([ "$n" = 2 ] || echo "route 198.51.100.0/24 blackhole;") }
template bgp kube {
  local 192.0.2.20$n as 65001;
  direct; connect delay time 1; connect retry time 2; error wait time 1, 3; hold time 60; graceful restart on;
  ipv4 { import all; export where source = RTS_STATIC; };
  ${2:-}
}
protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }
protocol bgp node_1 from kube { neighbor 192.0.2.11 as 64512; }
protocol bgp node_2 from kube { neighbor 192.0.2.12 as 64512; }
CONF
}
for n in 1 2; do
  host_up router-$n 20$n
  conf $n > "$LAB/router-$n/conf"
  bird_up router-$n "$LAB/router-$n/conf"
done
for node in node-1 node-2; do
  speaker $node --routes=bgp --bgp-holdtime=3s --bgp-graceful-restart=true \
    --peer-router-ips=192.0.2.201,192.0.2.202 --peer-router-asns=65001,65001
done
up() {
  local n
  for n in 1 2; do
    established node-$n 192.0.2.201 192.0.2.202 "192.0.2.1$((3 - n))" &&
      routed node-$n 203.0.113.0/24 192.0.2.201 192.0.2.202 && routed node-$n 198.51.100.0/24 192.0.2.201 || return
  done
}
within 30 "all sessions are up, and all routes there" up
sleep 1
check "and stay, with a hold time of 3 s" up

ip link set router-1 down
lost() { local n; for n in 1 2; do routed node-$n 198.51.100.0/24 && routed node-$n 203.0.113.0/24 192.0.2.202 || return; done; }
within 3 "a router is unplugged: what only it had is gone within 3 s, and the rest goes by the other" lost
check "the mesh is as it was" routed node-1 10.244.2.0/24 192.0.2.12
ip link set router-1 up
within 30 "it is plugged in again: all is back" up

ip link set node-2 down
within 3 "a node is unplugged: the route to its pods is gone within 3 s" routed node-1 10.244.2.0/24
check "the routers are as they were" routed node-1 198.51.100.0/24 192.0.2.201
ip link set node-2 up
within 30 "it is plugged in again: all is back" up

[ "$SPEAKER" = bird ] || {
  for n in 1 2; do
    conf $n "bfd graceful;" > "$LAB/router-$n/conf"
    check "router-$n is to watch by BFD" matches Reconfig birdc router-$n configure
  done
  for node in node-1 node-2; do
    ended $node
    speaker $node --routes=bgp --bgp-holdtime=60s --bgp-graceful-restart=true \
      --peer-router-ips=192.0.2.201,192.0.2.202 --peer-router-asns=65001,65001 \
      --enable-bfd --bfd-desired-min-tx-interval=100 --bfd-required-min-rx-interval=100
  done
  within 30 "with a hold time of 60 s and BFD all sessions are up, and all routes there" up
  watched() { bgp node-1 | jq -e "[.peers[] | select(.bfd == \"Up\")] | length == 2" && birdc router-1 show bfd sessions | grep -Eq "192.0.2.11 .*Up .*0.300"; }
  within 10 "both sides watch, and would know after 0.3 s" watched
  sleep 3
  check "and stay" watched
  ip link set router-1 down
  within 1 "a router is unplugged: what only it had is gone within 1 s, and the rest goes by the other" lost
  check "the log names BFD" log_has node-1 "peer 192.0.2.201: BFD: no packet was received within the detection time"
  ip link set router-1 up
  within 30 "it is plugged in again: all is back" up
  ended node-2
  sleep 3
  check "a node ends to be started again: the routers keep its routes" matches "via 192.0.2.12 " birdc router-2 show route
  speaker_again node-2
  within 30 "it is started again: all is back" up
}
finish
