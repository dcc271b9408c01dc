# shellcheck shell=bash
# shellcheck disable=SC2154
# outside.sh: the checks with an outside router of any kind (sourced by the scenarios bird, frr and gobgp, which define router_up AS
# PASSWORD, router_is AS PASSWORD, router_up_with NODE, router_route PREFIX NODE, router_refresh NODE, router_shut NODE MESSAGE,
# router_open NODE, router_shows AS_PATH, router_community).
# shellcheck source=SCRIPTDIR/network.sh
. "${BASH_SOURCE[0]%/*}/network.sh"

both_up() { established node-1 192.0.2.201 && established node-2 192.0.2.201 && router_up_with 1 && router_up_with 2; }
learned() { routed "node-$1" 203.0.113.0/24 192.0.2.201 && routed "node-$1" 2001:db8:113::/48 2001:db8::201; }
# seen PREFIX NODE NEXT_HOP PATH: the router has the prefix from that node.
seen() { matches "$3" router_route "$1" "$2" && matches "$(router_shows "$4")" router_route "$1" "$2"; }

speakers() { # FLAG...
  for node in node-1 node-2; do
    [ ! -e "$LAB/$node/flags" ] || ended $node
    speaker $node --routes=bgp --enable-ipv6=true --peer-router-ips=192.0.2.201 "$@"
  done
}

# with_as AS PATH: the router has this AS and sees this path.
with_as() {
  within 30 "AS $1: the sessions are up, seen from both sides" both_up
  within 10 "AS $1: its routes are in the kernel, both families over one IPv4 session" learned 1
  within 10 "AS $1: it has our pods' route" seen 10.244.1.0/24 1 192.0.2.11 "$2"
  within 10 "AS $1: over IPv6 too, with an IPv6 next hop" seen fd44:1::/64 1 2001:db8::1 "$2"
  within 10 "AS $1: each node announces its own pods" seen 10.244.2.0/24 2 192.0.2.12 "$2"
  check "AS $1: and no other pods" lacks 192.0.2.11 router_route 10.244.2.0/24 1
  check "AS $1: its default route is not taken" routed node-1 0.0.0.0/0
}

outside_scenario() {
  lab_up
  node_up 1 kube-router.io/node.bgp.communities=65000:7
  node_up 2 kube-router.io/path-prepend.as=64512 kube-router.io/path-prepend.repeat-n=2
  host_up router 201
  api_up services endpointslices endpoints
  router_up 65001 ""
  speakers --peer-router-asns=65001
  within 30 "the session comes up, seen from both sides" both_up
  within 10 "a community is added for it" router_community
  within 10 "our AS is put in front as often as asked" seen 10.244.2.0/24 2 192.0.2.12 "64512 64512 64512"
  within 30 "the nodes have each other's pods without it" routed node-1 10.244.2.0/24 192.0.2.12
  annotate_node 1; annotate_node 2; publish_nodes
  within 10 "the annotation goes, and the community with it" not router_community
  with_as 65001 64512

  # Each session stays down while it is shut, and the peer's reason is shown.
  router_shut 1 "window 7" > /dev/null
  within 10 "it is shut: its routes are removed here" routed node-1 203.0.113.0/24
  check "but not where it is up" learned 2
  # BIRD in kinglet's place does not see the message of GoBGP 3.10 either.
  [ "${words:-yes}" = no ] || within 5 "its message is in our log" log_has node-1 "window 7"
  router_open 1 > /dev/null
  within 30 "it is opened: all is back" learned 1

  router_refresh 1 > /dev/null
  sleep 1
  check "it asks for a refresh and has our route still" seen 10.244.1.0/24 1 192.0.2.11 64512
  check "the session outlives that" both_up

  # customimportreject comes: what is refused now was let in. It goes: we must ask, for it was not kept.
  [ "$SPEAKER" = bird ] || {
    annotate_node 1 kube-router.io/node.bgp.customimportreject=203.0.113.0/24; publish_nodes
    within 10 "a prefix is refused by annotation, and goes" routed node-1 203.0.113.0/24
    check "the session outlives that too" both_up
    annotate_node 1; publish_nodes
    within 10 "it is refused no more, and is back by a route refresh" routed node-1 203.0.113.0/24 192.0.2.201
    check "within the same session" both_up
  }

  speakers --peer-router-asns=65001 --advertise-cluster-ip
  within 30 "--advertise-cluster-ip: it has each ClusterIP" seen 10.96.122.86/32 1 192.0.2.11 64512
  within 10 "--advertise-cluster-ip: from both nodes" seen 10.96.0.1/32 2 192.0.2.12 64512
  check "--advertise-cluster-ip: the other node does not receive it" routed node-2 10.96.122.86/32
  check "and pods still" seen 10.244.1.0/24 1 192.0.2.11 64512

  speakers --peer-router-asns=65001 --peer-router-passwords=cm9zZWJ1ZA==
  sleep 6
  check "MD5 here alone: no session" down node-1 192.0.2.201
  router_is 65001 rosebud
  within 40 "MD5 on both sides: the sessions are up" both_up
  router_is 65001 daffodil
  within 40 "MD5 differs: no session" down node-1 192.0.2.201
  sleep 4
  check "and none comes" down node-1 192.0.2.201

  router_is 4200000001 ""
  speakers --peer-router-asns=4200000001
  with_as 4200000001 64512
  router_is 64512 ""
  speakers --peer-router-asns=64512
  with_as 64512 ""
}
