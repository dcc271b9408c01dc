#!/usr/bin/env bash
# A route reflector between clusters, as in the container.training workshop: FRR that any speaker of AS 64512 may join. Then a node
# that reflects, by annotation.
# tier: quick
#
#   cluster a: node-1 - node-2        cluster b: node-3 - node-4       AS 64512, each a mesh of its own
#                     \     \            /      /
#                      reflector: 192.0.2.250, FRR, with 1.0.0.2/32
#
# shellcheck source=SCRIPTDIR/../network.sh
. "${0%/*}/../network.sh"

lab_up
host_up reflector 250
cat > "$LAB/reflector/conf" << CONF
hostname reflector
ip nht resolve-via-default
router bgp 64512
 bgp router-id 192.0.2.250
 bgp log-neighbor-changes
 neighbor kube peer-group
 neighbor kube remote-as 64512
 neighbor kube route-reflector-client
 bgp listen range 0.0.0.0/0 peer-group kube
 network 1.0.0.2/32
CONF
frr_up reflector "$LAB/reflector/conf" --no_kernel --no_zebra
node_up 1; node_up 2; api_up
CLUSTER=b; node_up 3; node_up 4; api_up
for n in 1 2 3 4; do speaker node-$n --routes=bgp --peer-router-ips=192.0.2.250 --peer-router-asns=64512; done

joined() { # NODE OTHER...: all of their pods by themselves, and the reflector's own network.
  local node=$1 n; shift
  established "node-$node" 192.0.2.250 && routed "node-$node" 1.0.0.2/32 192.0.2.250 || return
  for n; do routed "node-$node" "10.244.$n.0/24" "192.0.2.1$n" || return; done
}
within 30 "node-1 has the routes of both clusters, and 1.0.0.2" joined 1 2 3 4
within 5 "node-2 too" joined 2 1 3 4
within 5 "node-3 too" joined 3 1 2 4
within 5 "node-4 too" joined 4 1 2 3
check "1.0.0.2 is as the workshop's slide has it" matches "^1\.0\.0\.2 via 192\.0\.2\.250 dev eth0 " ip -n node-1 route show 1.0.0.2
sleep 2
for n in 1 2 3 4; do check "node-$n's own pods do not come back to it" routed node-$n 10.244.$n.0/24; done
same "the reflector has four peers, each of which announced one network" "1 1 1 1" \
  "$(vty reflector -c 'show bgp ipv4 unicast summary json' | jq -r '[.peers[].pfxRcd | tostring] | join(" ")')"

# The address of a Service too (the next page of the exercise).
cp "$here/../../fixtures/objects/three-nodes/"{services,endpointslices,endpoints}.json "$LAB/b/objects/"
ended node-3
speaker node-3 --routes=bgp --peer-router-ips=192.0.2.250 --peer-router-asns=64512 --advertise-cluster-ip
within 30 "--advertise-cluster-ip on node-3: node-1 reaches a ClusterIP by it" routed node-1 10.96.122.86/32 192.0.2.13

vty reflector -c 'configure terminal' -c 'router bgp 64512' -c 'neighbor kube shutdown'
within 10 "the reflector shuts its sessions: routes that only it announced are removed" routed node-1 10.244.3.0/24
check "and 1.0.0.2" routed node-1 1.0.0.2/32
check "the mesh stays" routed node-1 10.244.2.0/24 192.0.2.12
for host in reflector node-1 node-2 node-3 node-4; do ended $host; done

# node-1 reflects for node-2 and node-3, which have no session with each other.
CLUSTER=a
annotate_node 1 kube-router.io/rr.server=42
annotate_node 2 kube-router.io/rr.client=42
annotate_node 3 kube-router.io/rr.client=42
publish_nodes
for n in 1 2 3; do speaker node-$n --routes=bgp; done
clients() {
  peers_are node-1 2 && peers_are node-2 1 && established node-2 192.0.2.11 && established node-3 192.0.2.11 &&
    routed node-2 10.244.3.0/24 192.0.2.13 && routed node-3 10.244.2.0/24 192.0.2.12 && routed node-2 10.244.1.0/24 192.0.2.11
}
within 30 "a node reflects: its clients have each other's routes, by each other's addresses" clients
check "and not their own" routed node-2 10.244.2.0/24
ended node-3
within 5 "a client goes, and the route is withdrawn from the other" routed node-2 10.244.3.0/24
finish
