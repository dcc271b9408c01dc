#!/usr/bin/env bash
# GoBGP as an outside router: with another AS, with one of four octets, with our own. Checks both sides of each session.
# tier: long
#
#   node-1 ---- node-2     AS 64512, in a mesh
#        \      /
#         router           192.0.2.201, 2001:db8::201: GoBGP; AS 65001, then 4200000001, then 64512
#
# shellcheck source=SCRIPTDIR/../outside.sh
. "${0%/*}/../outside.sh"

conf() { # AS PASSWORD
  local n
  printf '[global.config]\nas = %s\nrouter-id = "192.0.2.201"\n' "$1"
  for n in 1 2; do
    cat << CONF
[[neighbors]]
[neighbors.config]
neighbor-address = "192.0.2.1$n"
peer-as = 64512
auth-password = "$2"
[neighbors.timers.config]
hold-time = 30
keepalive-interval = 10
connect-retry = 2
idle-hold-time-after-reset = 1
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
CONF
  done
}
go() { in_ns router gobgp "$@"; }
router_up() {
  conf "$@" > "$LAB/router/conf"
  ip netns exec router gobgpd -t toml -f "$LAB/router/conf" --pprof-disable >> "$LAB/router/log" 2>&1 &
  echo $! > "$LAB/router/gobgpd.pid"
  until go global > /dev/null 2>&1; do sleep 0.2; done
  go global rib add 203.0.113.0/24 nexthop 192.0.2.201
  go global rib add 0.0.0.0/0 nexthop 192.0.2.201
  go global rib -a ipv6 add 2001:db8:113::/48 nexthop 2001:db8::201
}
router_is() { ended router; router_up "$@"; }
router_up_with() { go neighbor "192.0.2.1$1" | grep -q 'BGP state = ESTABLISHED'; }
router_route() {
  local family=ipv4
  case $1 in *:*) family=ipv6 ;; esac
  go neighbor "192.0.2.1$2" adj-in -a $family -j | jq -r --arg p "$1" '.[$p] // .[] | (if type == "array" then .[] else . end) |
    select(.nlri.prefix == $p) | .attrs[] |
    if .type == 2 then "path \([.as_paths[]?.asns[]] | join(" "))" else (.nexthop // .communities // empty | "by \(.)") end'
}
router_refresh() { go neighbor "192.0.2.1$1" softresetin; }
router_shut() { go neighbor "192.0.2.1$1" disable --reason "$2"; }
router_open() { go neighbor "192.0.2.1$1" enable; }
router_shows() { echo "^path $1\$"; }
router_community() { router_route 10.244.1.0/24 1 | grep -q "$((65000 * 65536 + 7))"; }
words=no

outside_scenario
finish
