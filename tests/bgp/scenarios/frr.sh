#!/usr/bin/env bash
# FRR as the router outside: of another AS, of one of four octets, of our own; what it sees of us, and we of it.
#
#   node-1 ---- node-2     AS 64512, in a mesh
#        \      /
#         router           192.0.2.201, 2001:db8::201: FRR; AS 65001, then 4200000001, then 64512
#
# shellcheck source=SCRIPTDIR/../outside.sh
. "${0%/*}/../outside.sh"

conf() { # AS PASSWORD
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
  done
  echo " address-family ipv4 unicast"
  echo "  network 203.0.113.0/24"
  printf '  neighbor 192.0.2.1%s activate\n' 1 2
  printf '  neighbor 192.0.2.1%s default-originate\n' 1 2
  printf '  neighbor 192.0.2.1%s next-hop-self\n' 1 2
  echo " exit-address-family"
  echo " address-family ipv6 unicast"
  echo "  network 2001:db8:113::/48"
  printf '  neighbor 192.0.2.1%s activate\n' 1 2
  echo " exit-address-family"
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
told() { vty router -c "configure terminal" -c "router bgp $(cat "$LAB/router/asn")" -c "$1"; }
router_shut() { told "neighbor 192.0.2.1$1 shutdown message $2"; }
router_open() { told "no neighbor 192.0.2.1$1 shutdown"; }
router_shows() { echo "^path $1\$"; }
router_community() { vty router -c "show bgp ipv4 unicast 10.244.1.0/24" | grep -q 'Community: 65000:7'; }

outside_scenario
finish
