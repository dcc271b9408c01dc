#!/usr/bin/env bash
# BIRD as an outside router: with another AS, with one of four octets, with our own. Checks both sides of each session.
# tier: quick
#
#   node-1 ---- node-2     AS 64512, in a mesh
#        \      /
#         router           192.0.2.201, 2001:db8::201: BIRD; AS 65001, then 4200000001, then 64512
#
# shellcheck source=SCRIPTDIR/../outside.sh
. "${0%/*}/../outside.sh"

conf() { # AS PASSWORD [MORE]
  local key=
  [ -z "$2" ] || key="password \"$2\";"
  cat << CONF
router id 192.0.2.201;
log stderr all;
debug protocols { events, states };
protocol device {}
protocol static { ipv4; route 203.0.113.0/24 blackhole; route 0.0.0.0/0 blackhole; }
protocol static { ipv6; route 2001:db8:113::/48 blackhole; }
template bgp kube {
  local 192.0.2.201 as $1;
  direct; connect delay time 1; connect retry time 2; error wait time 1, 3; hold time 30;
  ipv4 { import all; export where source = RTS_STATIC; import table; };
  ipv6 { import all; export where source = RTS_STATIC; import table; next hop address 2001:db8::201; };
  $key
  ${3:-}
}
protocol bgp node_1 from kube { neighbor 192.0.2.11 as 64512; }
protocol bgp node_2 from kube { neighbor 192.0.2.12 as 64512; }
CONF
}
router_up() { conf "$@" > "$LAB/router/conf"; bird_up router "$LAB/router/conf"; }
router_is() { conf "$@" > "$LAB/router/conf"; matches Reconfig birdc router configure; }
router_up_with() { birdc router show protocols "node_$1" | grep -q Established; }
router_route() { birdc router show route all "$1" protocol "node_$2"; }
router_refresh() { birdc router reload in "node_$1"; }
router_shut() { birdc router disable "node_$1" "\"$2\""; }
router_open() { birdc router enable "node_$1"; }
router_shows() { echo "BGP.as_path: $1\$"; }
router_community() { birdc router show route all 10.244.1.0/24 protocol node_1 | grep -q 'BGP.community.*(65000,7)'; }

outside_scenario
[ "$SPEAKER" = bird ] || {
  # RFC 5082: packets of a neighbour arrive with a TTL of 255; without that option BIRD sends 1.
  router_is 65001 ""
  speakers --peer-router-asns=65001 --peer-router-ttl-security
  sleep 6
  check "TTL security here alone: no session" down node-1 192.0.2.201
  router_is 65001 "" "ttl security on;"
  within 40 "TTL security on both sides: the sessions are up" both_up
  within 10 "and the routes there" learned 1
}
finish
