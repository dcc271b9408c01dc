#!/usr/bin/env bash
# Two routers have the same prefix: one route with both next hops; if one router goes, only its next hop is removed.
# tier: long
#
#          node-1            AS 64512
#         /      \
#   router-1  router-2       192.0.2.201 .202, AS 65001: BIRD. Both have 203.0.113.1 and 2001:db8:113::1
#
# shellcheck source=SCRIPTDIR/../network.sh
. "${0%/*}/../network.sh"

lab_up
node_up 1
api_up
for n in 1 2; do
  host_up router-$n 20$n
  ip -n router-$n addr add 203.0.113.1/32 dev lo
  cat > "$LAB/router-$n/conf" << CONF
router id 192.0.2.20$n;
log stderr all;
protocol device {}
protocol static { ipv4; route 203.0.113.0/24 blackhole; }
protocol static { ipv6; route 2001:db8:113::/48 blackhole; }
protocol bgp node_1 {
  local 192.0.2.20$n as 65001;
  neighbor 192.0.2.11 as 64512;
  direct; connect delay time 1; connect retry time 2; error wait time 1, 3;
  ipv4 { import all; export where source = RTS_STATIC; };
  ipv6 { import all; export where source = RTS_STATIC; next hop address 2001:db8::20$n; };
}
CONF
  bird_up router-$n "$LAB/router-$n/conf"
done
speaker node-1 --routes=bgp --enable-ipv6=true --peer-router-ips=192.0.2.201,192.0.2.202 --peer-router-asns=65001,65001

routed_by() { # N...
  routed node-1 203.0.113.0/24 "${@/#/192.0.2.20}" && routed node-1 2001:db8:113::/48 "${@/#/2001:db8::20}"
}
within 30 "a route by way of both, in each family" routed_by 1 2
in_ns node-1 ping -q -i 0.05 -W 1 203.0.113.1 > "$LAB/ping" 2>&1 &
in_ns node-1 ip monitor route > "$LAB/monitor" 2>&1 &
sleep 0.5
birdc router-2 disable node_1 > /dev/null
within 5 "one goes: by way of the other" routed_by 1
birdc router-2 enable node_1 > /dev/null
within 30 "it comes back: by way of both" routed_by 1 2
birdc router-1 disable node_1 > /dev/null
within 5 "the other goes: by way of the one" routed_by 2
pkill -INT -x ping; sleep 1.5
same "no ping is lost" " 0% packet loss" "$(grep -o ' [0-9.]*% packet loss' "$LAB/ping")"
same "the route was replaced, never taken away" "" "$(grep '^Deleted 203' "$LAB/monitor")"
birdc router-2 disable node_1 > /dev/null
within 5 "both go, and the route with them" routed_by
finish
