#!/bin/sh
# Services at their ClusterIPs: service.go, networking.go and dual_stack.go of Kubernetes' e2e tests (test/e2e/network).
# tier: quick
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
step basic <<'END'
web 1 80 : p1a p2a p3a
ports 2 a=80 b=81>8081 : p1a p2a
dns 3 tcp=53/tcp udp=53/udp>8081 : p1a p2a
self 4 80 : p1a
far 5 80 : p3a
empty 6 80/tcp u=80/udp :
host 7 80>22 : node-2
gone 8 80 : p1a p2a
same 9 80 : p1a p2a p3a
s 10 80/sctp : p1a p2a
notready 11 80 : p1a! p2a!
pieces 12 80 : p1a / p1a p2a / p3a
unsaid 13 80 : p1a? p2a?
END
serving node-2 node-2 22

t="should serve a basic endpoint from pods"
served "$t: from a pod" p1c cluster:1 80 "p1a p2a p3a" p1c
served "$t: from another node's pod" p2b cluster:1 80 "p1a p2a p3a" p2b
served "$t: from a node that has an endpoint" node-1 cluster:1 80 "p1a p2a p3a" node-1
t="should serve multiport endpoints from pods"
served "$t: the first port" p1c cluster:2 80 "p1a p2a" p1c
served "$t: the second port" p1c cluster:2 81 "p1a-too p2a-too" p1c
t="should serve endpoints on same port and different protocols"
served "$t: TCP" p1c cluster:3 53 "p1a p2a" p1c
served "$t: UDP" p1c cluster:3 53 "p1a-too p2a-too" p1c udp
served "$t: UDP, from a node" node-1 cluster:3 53 "p1a-too p2a-too" node-1 udp
t="should allow pods to hairpin back to themselves through services"
served "$t" p1a cluster:4 80 p1a
served "$t: among others" p1a cluster:1 80 "p1a p2a p3a"
served "$t: UDP" p1a cluster:3 53 "p1a-too p2a-too" "" udp
t="should preserve source pod IP for traffic thru service cluster IP"
served "$t: server on the same node" p1c cluster:4 80 p1a p1c
served "$t: server on another node" p1c cluster:5 80 p3a p1c
t="should be rejected when no endpoints exist"
for who in p1c node-1 p3a outside; do refused "$t: from $who" $who cluster:6 80; done
refused "$t: UDP, from a pod" p1c cluster:6 80 udp
refused "$t: UDP, from a node" node-1 cluster:6 80 udp
refused "$t: only endpoints that are not ready" p1c cluster:11 80
t="should respect internalTrafficPolicy=Cluster Pod and Node, to Pod (hostNetwork: true)"
served "$t: from a pod" p1c cluster:7 80 node-2
served "$t: from a node" node-1 cluster:7 80 node-2
served "$t: from that node itself" node-2 cluster:7 80 node-2
served "should function for endpoint-Service" p2a cluster:1 80 "p1a p2a p3a"
served "should function for multiple endpoint-Services with same selector" p1c cluster:9 80 "p1a p2a p3a" p1c
t="should function for pod-Service: sctp"
served "$t: from a pod" p1c cluster:10 80 "p1a p2a" p1c sctp
served "$t: from a node" node-1 cluster:10 80 "p1a p2a" node-1 sctp
t="EndpointSlice should support a Service with multiple endpoints specified in multiple EndpointSlices"
served "$t" p1c cluster:12 80 "p1a p2a p3a" p1c
served "an endpoint without conditions is ready" p1c cluster:13 80 "p1a p2a" p1c
served "a Service is reached from outside by its ClusterIP, were it routed to a node" outside cluster:5 80 p3a node-1

step down <<'END'
web 1 80 : p2a p3a
ports 2 a=80 : p1a p2a
dns 3 udp=53/udp>8081 : p1a p2a
empty 6 80/tcp u=80/udp : p1a
same 9 80 : p1a p2a p3a
s 10 80/sctp :
fresh 14 80 : p2b
END
served "should update endpoints: http" p1c cluster:1 80 "p2a p3a" p1c
served "Services with the same endpoints keep theirs" p1c cluster:9 80 "p1a p2a p3a" p1c
unserved "a port that its Service no longer has" p1c cluster:2 81
served "the other port is as it was" p1c cluster:2 80 "p1a p2a"
refused "a protocol that its Service no longer has" p1c cluster:3 53
served "the other protocol is as it was" p1c cluster:3 53 "p1a-too p2a-too" "" udp
served "a Service whose first endpoint came" p1c cluster:6 80 p1a p1c
served "a Service whose first endpoint came: UDP" p1c cluster:6 80 p1a p1c udp
unserved "a Service whose last endpoint went: SCTP" p1c cluster:10 80 sctp
t="should be able to up and down services"
unserved "$t: one that went" p1c cluster:8 80
unserved "$t: one that went, from a node" node-1 cluster:8 80
served "$t: one that came" p1c cluster:14 80 p2b p1c

step basic
t="should work after the service has been recreated"
served "$t" p1c cluster:8 80 "p1a p2a" p1c
served "$t: from a node" node-1 cluster:8 80 "p1a p2a" node-1
for node in $NODES; do
  kinglet "$node" plan > /tmp/plan 2> /dev/null
  same "$node: then plan has nothing to do" "0 " "$? $(grep -v '^!' /tmp/plan)"
done

step single <<'END'
four 20 families=4 80 : p1a p2a
six 21 families=6 80 : p1a p2a
END
t="should create a single stack service with cluster ip from primary (secondary) service range"
FAMILIES=4
served "$t" p1c cluster:20 80 "p1a p2a" p1c
unserved "$t: the other one has no such address" p1c cluster:21 80
FAMILIES=6
served "$t" p1c cluster:21 80 "p1a p2a" p1c
unserved "$t: the other one has no such address" p1c cluster:20 80
finish
