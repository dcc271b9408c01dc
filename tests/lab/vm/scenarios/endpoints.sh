#!/bin/sh
# The choice of endpoints: service.go, traffic_distribution.go and topology_hints.go of Kubernetes' e2e tests.
# tier: quick
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
serving node-1 node-1 22
step policy <<'END'
local 1 itp=Local 80 : p1a p2a
away 2 itp=Local 80/tcp u=80/udp : p2a p3a
nobody 3 itp=Local 80 :
host 4 itp=Local 80>22 : node-1
unready 5 itp=Local 80 : p1a! p2a
END
t="should respect internalTrafficPolicy=Local Pod to Pod"
served "$t" p1c cluster:1 80 p1a p1c
served "$t: on another node" p2b cluster:1 80 p2a p2b
served "$t: the endpoint itself" p1a cluster:1 80 p1a
dropped "$t: no local endpoint" p1c cluster:2 80
dropped "$t: no local endpoint, UDP" p1c cluster:2 80 udp
dropped "$t: no local endpoint is ready" p1c cluster:5 80
refused "$t: no endpoint at all" p1c cluster:3 80
t="should respect internalTrafficPolicy=Local Pod (hostNetwork: true) to Pod"
served "$t" node-1 cluster:1 80 p1a node-1
dropped "$t: no local endpoint" node-1 cluster:2 80
dropped "$t: no local endpoint, UDP" node-1 cluster:2 80 udp
refused "$t: no endpoint at all" node-1 cluster:3 80
t="should respect internalTrafficPolicy=Local Pod and Node, to Pod (hostNetwork: true)"
served "$t: from a pod" p1c cluster:4 80 node-1
served "$t: from the node" node-1 cluster:4 80 node-1
dropped "$t: from a pod on another node" p2b cluster:4 80
dropped "$t: from another node" node-2 cluster:4 80

step terminating <<'END'
all 1 80@30101 : p1a~ p2a~
some 2 80 : p1a~ p2a
deaf 3 80 : p1a~! p2a~!
mixed 4 80 : p1a~! p2a~
local 5 itp=Local 80 : p1a~ p2a
other 6 itp=Local 80 : p1a~! p2a
outer 7 type=NodePort etp=Local 80@30107 : p1a~ p2a
both 8 type=NodePort etp=Local 80@30108 : p1a~ p1b p2a
lost 9 type=NodePort etp=Local 80@30109 : p1a~! p2a
END
t="should fallback to terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Cluster"
served "$t" p1c cluster:1 80 "p1a p2a" p1c
served "$t: from a node" node-3 cluster:1 80 "p1a p2a" node-3
served "$t: not where one is ready" p1c cluster:2 80 p2a p1c
refused "$t: not to those that no longer serve" p1c cluster:3 80
served "$t: only to those that serve" p1c cluster:4 80 p2a p1c
t="should fallback to local terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Local"
served "$t" p1c cluster:5 80 p1a p1c
served "$t: another node has a ready one" p2b cluster:5 80 p2a p2b
dropped "$t: not to one that no longer serves" p1c cluster:6 80
t="should fallback to terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Cluster"
served "$t" outside node-1 30101 "p1a p2a"
served "$t: through a node without one" outside node-3 30101 "p1a p2a" node-3
t="should fallback to local terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Local"
served "$t" outside node-1 30107 p1a outside
served "$t: inside, the ready ones" p1c cluster:7 80 p2a p1c
served "$t: inside, at the node port too" p1c node-1 30107 p2a
served "$t: not where a local one is ready" outside node-1 30108 p1b outside
dropped "$t: not to one that no longer serves" outside node-1 30109

step published <<'END'
all 1 80 : p1a p2a
END
t="should allow creating services with publishNotReadyAddresses"
served "$t: such endpoints come as ready" p1c cluster:1 80 "p1a p2a" p1c

# node-1 and node-3 are in zone-0, node-2 is in zone-1.
step hints <<'END'
zone 1 80@30201 : p1a@zone-0 p2a@zone-1 p3a@zone-0
node 2 80 : p1a@node-1 p2a@node-2
one 3 80 : p1a@zone-0 p2a@zone-1 p3a
none 4 80 : p2a@zone-1 p2b@zone-1
lack 5 80 : p1a@node-1 p2a@node-2 p3a
unready 6 80 : p1a@zone-0 p2a@zone-1 p3a!
local 7 itp=Local 80 : p1a@zone-1 p2a@zone-1
dying 8 80 : p1a~@zone-1 p2a~@zone-1 p3a~@zone-0
outer 9 type=NodePort etp=Local 80@30209 : p1a@zone-1 p2a@zone-1
END
t="Traffic Distribution should route traffic to an endpoint in the same zone (PreferSameZone, PreferClose)"
served "$t: zone-0" p1c cluster:1 80 "p1a p3a" p1c
served "$t: zone-1" p2b cluster:1 80 p2a p2b
served "$t: from a node" node-3 cluster:1 80 "p1a p3a" node-3
served "$t: from outside, the zone of the node asked" outside node-2 30201 p2a
t="Traffic Distribution should route traffic to an endpoint on the same node (PreferSameNode)"
served "$t" p1c cluster:2 80 p1a p1c
served "$t: another node" p2b cluster:2 80 p2a p2b
served "$t: any endpoint where none is on this node" p3b cluster:2 80 "p1a p2a" p3b
served "hints count only where every ready endpoint has one: zones" p1c cluster:3 80 "p1a p2a p3a" p1c
served "hints count only where every ready endpoint has one: nodes" p1c cluster:5 80 "p1a p2a p3a" p1c
served "hints count only where every ready endpoint has one: one that is not ready needs none" p1c cluster:6 80 p1a p1c
served "hints count only where one names this zone" p1c cluster:4 80 "p2a p2b" p1c
served "hints do not count for a Local policy: internal" p1c cluster:7 80 p1a p1c
served "hints do not count for a Local policy: external" outside node-1 30209 p1a outside
served "hints do not count for terminating endpoints" p1c cluster:8 80 "p1a p2a p3a" p1c
finish
