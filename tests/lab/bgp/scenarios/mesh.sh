#!/usr/bin/env bash
# A full mesh: each node has a route to every other node's pods. MESH=50 sets the number of nodes.
# tier: quick
#
#   node-1 ---- node-2 ---- node-3 ... node-$MESH     AS 64512, each a session with each
#
# shellcheck source=SCRIPTDIR/../network.sh
. "${0%/*}/../network.sh"

lab_up
for n in $(seq "$MESH"); do node_up "$n"; done
# shellcheck disable=SC2046
[ "$MESH" -lt 20 ] || fill_neighbours $(seq "$MESH")
api_up
start=$SECONDS
for n in $(seq "$MESH"); do speaker "node-$n" --routes=bgp --enable-ipv6=true; done

# full NODES...: each pair of these nodes has a session, and a route of each family.
full() {
  local n m
  for n; do
    peers_are "node-$n" $(($# - 1)) || return
    for m; do
      [ "$n" = "$m" ] || printf '%s via %s\n' "10.244.$m.0/24" "192.0.2.$((10 + m))" "fd44:$m::/64" "2001:db8::$m"
    done | sort > "$TMPDIR/wanted"
    for family in -4 -6; do ip -n "node-$n" $family route show proto "$PROTO"; done |
      sed 's/ dev .*//' | sort | diff "$TMPDIR/wanted" - || { echo "on node-$n"; return 1; }
  done
}
# shellcheck disable=SC2046
within $((30 + MESH * 3)) "$MESH nodes: each has a session with each, and a route to its pods" full $(seq "$MESH")
echo "  ($((SECONDS - start)) s from the first start)"
check "no route to its own pods" routed node-1 10.244.1.0/24
unknown_peer_fails() {
  ! "$KINGLET" bgp routes --peer 192.0.2.99 --in --run-dir "$LAB/node-1/run" > "$TMPDIR/printed" &&
    grep -q "there is no peer 192.0.2.99" "$TMPDIR/printed"
}
[ "$SPEAKER" = bird ] || check "the routes of an address that is not a peer are an error" unknown_peer_fails

new=$((MESH + 1))
node_up $new
# shellcheck disable=SC2046
[ "$MESH" -lt 20 ] || fill_neighbours $(seq $new)
publish_nodes
speaker node-$new --routes=bgp --enable-ipv6=true
# shellcheck disable=SC2046
within 30 "a node that is added joins" full $(seq $new)
sessions() { bgp node-1 | jq -c '[.peers[] | select(.addr == "192.0.2.12") | .uptime] | .[0] // 0'; }

ended node-3; remove_node 3; publish_nodes
gone() { routed node-1 10.244.3.0/24 && routed node-2 fd44:3::/64 && bgp node-1 | lacks_peer 192.0.2.13; }
lacks_peer() { jq -e --arg a "$1" 'all(.peers[]; .addr != $a)' > "$TMPDIR/printed"; }
within 10 "a node that is removed is a peer no more, and its routes are gone" gone

# node-2 moves to another address: the host gets it, then the Node object has it, and then the old one is removed.
ip -n node-2 addr add 192.0.2.99/24 dev eth0
sed -i 's/192\.0\.2\.12,/192.0.2.99,/' "$LAB/a/nodes/node-2"; publish_nodes
moved() { established node-1 192.0.2.99 && routed node-1 10.244.2.0/24 192.0.2.99 && bgp node-1 | lacks_peer 192.0.2.12; }
within 30 "a node's address changes: the session and the route follow" moved
ip -n node-2 addr del 192.0.2.12/24 dev eth0
sleep 2; check "and outlive the old address" moved
check "the others stay up" established node-1 "192.0.2.$((10 + new))"
finish
