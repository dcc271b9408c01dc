#!/usr/bin/env bash
# FRR as an outside router: with another AS, with one of four octets, with our own. Checks both sides of each session.
# tier: long
#
#   node-1 ---- node-2     AS 64512, in a mesh
#        \      /
#         router           192.0.2.201, 2001:db8::201: FRR; AS 65001, then 4200000001, then 64512
#
# shellcheck source=SCRIPTDIR/../outside.sh
. "${0%/*}/../outside.sh"

conf() { # AS PASSWORD [bfd]
  local n
  echo "$1" > "$LAB/router/asn"
  cat << CONF
router bgp $1
 bgp router-id 192.0.2.201
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp default ipv4-unicast
CONF
  for n in 1 2; do
    echo " neighbor 192.0.2.1$n remote-as 64512"
    echo " neighbor 192.0.2.1$n timers 10 30"
    echo " neighbor 192.0.2.1$n timers connect 2"
    [ -z "$2" ] || echo " neighbor 192.0.2.1$n password $2"
    [ -z "${3:-}" ] || echo " neighbor 192.0.2.1$n bfd 3 100 100"
  done
  echo " address-family ipv4 unicast"
  echo "  network 203.0.113.0/24"
  printf '  neighbor 192.0.2.1%s activate\n' 1 2
  printf '  neighbor 192.0.2.1%s default-originate\n' 1 2
  printf '  neighbor 192.0.2.1%s next-hop-self\n' 1 2
  printf '  neighbor 192.0.2.1%s route-map large out\n' 1 2
  echo " exit-address-family"
  echo " address-family ipv6 unicast"
  echo "  network 2001:db8:113::/48"
  printf '  neighbor 192.0.2.1%s activate\n' 1 2
  echo " exit-address-family"
  echo "route-map large permit 10"
  echo " set large-community 65001:1:2 4200000001:0:7"
}
router_up() { conf "$@" > "$LAB/router/conf"; frr_up router "$LAB/router/conf"; }
router_is() { ended router; router_up "$@"; }
router_up_with() {
  vty router -c "show bgp neighbors 192.0.2.1$1 json" | jq -e '.[].bgpState == "Established"'
}
router_route() {
  local family=ipv4
  case $1 in *:*) family=ipv6 ;; esac
  vty router -c "show bgp $family unicast neighbors 192.0.2.1$2 routes json" |
    jq -r --arg p "$1" '.routes[$p][]? | "path \(.path)", (.nexthops[] | "by \(.ip)")'
}
router_refresh() { vty router -c "clear bgp ipv4 unicast 192.0.2.1$1 soft in"; }
configure_router() { vty router -c "configure terminal" -c "router bgp $(cat "$LAB/router/asn")" -c "$1"; }
router_shut() { configure_router "neighbor 192.0.2.1$1 shutdown message $2"; }
router_open() { configure_router "no neighbor 192.0.2.1$1 shutdown"; }
router_shows() { echo "^path $1\$"; }
router_community() { vty router -c "show bgp ipv4 unicast 10.244.1.0/24" | grep -q 'Community: 65000:7'; }

outside_scenario

[ "$SPEAKER" = bird ] || {
  large() { "$KINGLET" bgp routes --run-dir "$LAB/node-1/run" | grep -Eq '^\*> 203.0.113.0/24 .* 65001:1:2 4200000001:0:7$'; }
  within 10 "its large communities are shown" large

  router_is 65001 "" bfd
  speakers --peer-router-asns=65001 --bgp-holdtime=60s --enable-bfd --bfd-desired-min-tx-interval=100 \
    --bfd-required-min-rx-interval=100
  within 30 "a hold time of 60 s, and BFD: the sessions are up, seen from both sides" both_up
  within 10 "and its routes are there" learned 1
  watched() {
    bgp node-1 | jq -e '.peers[] | select(.addr == "192.0.2.201") | .bfd == "Up"' &&
      vty router -c "show bfd peer 192.0.2.11 json" |
      jq -e '.status == "up" and ."receive-interval" == 100 and ."remote-transmit-interval" == 100'
  }
  within 10 "both sides watch" watched
  sleep 3
  check "and stay" watched
  ip link set router down
  within 1 "it is unplugged: its routes are gone within 1 s" routed node-1 203.0.113.0/24
  check "the log names BFD" log_has node-1 "peer 192.0.2.201: BFD: no packet was received within the detection time"
  ip link set router up
  within 30 "it is plugged in again: all is back" learned 1
  within 10 "and watched" watched
}
finish
