#!/bin/sh
# Services at their external addresses: node ports, external IPs and load balancers (service.go, networking.go and loadbalancer.go
# of Kubernetes' e2e tests). outside and stranger route the external addresses to node-1.
# tier: quick
# time: virtual
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
serving outside outside 9000
step cluster <<'END'
web 1 external=1 lb=2 80/tcp@30080 u=80/udp@30080 : p1a p2a p3a
far 2 external=3 lb=4 80@30081 : p2a
near 3 external=5 lb=6 80@30082 : p1a
empty 4 external=7 lb=8 80/tcp@30083 u=80/udp@30083 :
proxied 5 proxy=9 80@30084 : p1a p2a
plain 6 external=11 80 : p1a p2a
s 7 80/sctp@30087 : p1a p2a
END
t="should be able to create a functioning NodePort service"
served "$t: from outside" outside node-1 30080 "p1a p2a p3a"
served "$t: from outside, at another node" outside node-3 30080 "p1a p2a p3a"
served "$t: from a pod" p1c node-1 30080 "p1a p2a p3a"
served "$t: from a pod, at another node" p1c node-2 30080 "p1a p2a p3a"
served "$t: from a node" node-1 node-1 30080 "p1a p2a p3a"
served "$t: from another node" node-2 node-1 30080 "p1a p2a p3a"
served "$t: at its ClusterIP too" p1c cluster:1 80 "p1a p2a p3a" p1c
served "$t: a pod reaches itself" p1a node-1 30082 p1a
t="should function for node-Service: udp"
served "$t: from outside" outside node-1 30080 "p1a p2a p3a" "" udp
served "$t: from a pod" p1c node-1 30080 "p1a p2a p3a" "" udp
served "$t: from a node" node-1 node-1 30080 "p1a p2a p3a" "" udp
served "should function for node-Service: sctp" outside node-1 30087 "p1a p2a" "" sctp
served "externalTrafficPolicy=Cluster masquerades what goes on to another node" outside node-1 30081 p2a node-1
t="should be possible to connect to a service via ExternalIP when the external IP is not assigned to a node"
for n in 1 2; do
  [ $n = 2 ] && t="should be able to create a LoadBalancer service: its ingress IP (no ipMode, or VIP)"
  served "$t: from outside" outside external:$n 80 "p1a p2a p3a"
  served "$t: from outside, UDP" outside external:$n 80 "p1a p2a p3a" "" udp
  served "$t: from a pod" p1c external:$n 80 "p1a p2a p3a"
  served "$t: from a node" node-1 external:$n 80 "p1a p2a p3a"
  served "$t: from a node to which no host routes it" node-3 external:$n 80 "p1a p2a p3a"
  served "$t: hairpin" p1a external:$((n + 4)) 80 p1a
  served "$t: masqueraded on the way to another node" outside external:$((n + 2)) 80 p2a node-1
  unserved "$t: not on a port that is no Service" outside external:$n 8080
done
served "external IPs of a Service of type ClusterIP" outside external:11 80 "p1a p2a"
t="should be rejected when no endpoints exist"
for who in p1c node-1 outside; do
  refused "$t: NodePort, from $who" $who node-1 30083
  refused "$t: ExternalIP, from $who" $who external:7 80
  refused "$t: LoadBalancer, from $who" $who external:8 80
done
refused "$t: NodePort, UDP, from outside" outside node-1 30083 udp
refused "$t: ExternalIP, UDP, from a pod" p1c external:7 80 udp
unserved "ipMode Proxy: that address is the load balancer's" p1c external:9 80
served "ipMode Proxy: the node port is served" outside node-1 30084 "p1a p2a"
t="should be able to send traffic between Pods without SNAT"
for pod in p1b p2a p3a; do served "$t: p1a to $pod" p1a $pod 8080 $pod p1a; done
served "a pod's packets to the outside have its node's address" p1c outside 9000 outside node-1

step local <<'END'
web 1 etp=Local external=1 lb=2 80/tcp@30080 u=80/udp@30080 : p1a p2a p3a
far 2 etp=Local external=3 lb=4 80/tcp@30081 u=80/udp@30081 : p2a p3a
near 3 etp=Local external=5 lb=6 80@30082 : p1a
empty 4 etp=Local external=7 lb=8 80@30083 :
double 5 etp=Local itp=Local lb=9 80@30084 : p1a p2a
END
t="should support externalTrafficPolicy=Local for type=NodePort"
served "$t: a local endpoint, which sees the client" outside node-1 30080 p1a outside
served "$t: at another node" outside node-2 30080 p2a outside
served "$t: UDP" outside node-1 30080 p1a outside udp
served "$t: at the ClusterIP, all" p1c cluster:1 80 "p1a p2a p3a" p1c
dropped "$t: no local endpoint" outside node-1 30081
dropped "$t: no local endpoint, UDP" outside node-1 30081 udp
served "$t: no local endpoint, from a pod" p1c node-1 30081 "p2a p3a"
served "$t: no local endpoint, from the node" node-1 node-1 30081 "p2a p3a"
served "$t: from a pod, all" p1c node-1 30080 "p1a p2a p3a"
served "$t: from the node, all" node-1 node-1 30080 "p1a p2a p3a"
served "$t: hairpin" p1a node-1 30082 p1a
refused "$t: no endpoint at all" outside node-1 30083
for n in 1 2; do
  t="ESIPP should only target nodes with endpoints: ExternalIP"
  [ $n = 2 ] && t="ESIPP should work for type=LoadBalancer"
  served "$t: a local endpoint, which sees the client" outside external:$n 80 p1a outside
  served "$t: UDP" outside external:$n 80 p1a outside udp
  dropped "$t: no local endpoint" outside external:$((n + 2)) 80
  dropped "$t: no local endpoint, UDP" outside external:$((n + 2)) 80 udp
  served "$t: from a pod, all" p1c external:$n 80 "p1a p2a p3a"
  served "$t: from a pod on a node without an endpoint" p1c external:$((n + 2)) 80 "p2a p3a"
  served "$t: from a pod, UDP" p1c external:$((n + 2)) 80 "p2a p3a" "" udp
  served "$t: from a node, all" node-1 external:$n 80 "p1a p2a p3a"
  served "$t: from a node without an endpoint" node-1 external:$((n + 2)) 80 "p2a p3a"
  served "$t: from a node, UDP" node-1 external:$((n + 2)) 80 "p2a p3a" "" udp
  served "$t: hairpin" p1a external:$((n + 4)) 80 p1a
  refused "$t: no endpoint at all" outside external:$((n + 6)) 80
done
t="internal and external policy do not touch each other"
served "$t: outside" outside external:9 80 p1a outside
served "$t: the ClusterIP" p1c cluster:5 80 p1a p1c
served "$t: a pod at the external address" p1c external:9 80 "p1a p2a"

step cluster
t="ESIPP should handle updates to ExternalTrafficPolicy field"
served "$t: to Cluster" outside node-1 30080 "p1a p2a p3a"
served "$t: to Cluster, without a local endpoint" outside external:4 80 p2a node-1
step local
served "$t: to Local" outside node-1 30080 p1a outside
dropped "$t: to Local, without a local endpoint" outside external:4 80

step ranges <<'END'
some 1 lb=1 external=21 ranges=192.0.2.254/32,2001:db8::fe/128 80@30080 : p1a p2a
pods 2 lb=2 ranges=10.244.0.4/32,fd00:10:244::4/128 80 : p1a p2a
wide 3 lb=3 ranges=0.0.0.0/0,::/0 80 : p1a p2a
local 4 lb=4 etp=Local ranges=192.0.2.253/32,2001:db8::fd/128 80 : p1a p2a
udp 5 lb=5 ranges=192.0.2.253/32,2001:db8::fd/128 80/udp : p1a p2a
END
t="should only allow access from service loadbalancer source ranges"
served "$t: in the range" outside external:1 80 "p1a p2a"
dropped "$t: not in the range" stranger external:1 80
served "$t: the node itself" node-1 external:1 80 "p1a p2a"
served "$t: the node port is for all" stranger node-1 30080 "p1a p2a"
served "$t: the external IP is for all" stranger external:21 80 "p1a p2a"
served "$t: the ClusterIP is for all" p1c cluster:1 80 "p1a p2a" p1c
served "$t: a pod in the range" p1c external:2 80 "p1a p2a"
dropped "$t: a pod not in the range" p1b external:2 80
dropped "$t: the outside not in the pods' range" outside external:2 80
served "$t: everybody" stranger external:3 80 "p1a p2a"
served "$t: with externalTrafficPolicy=Local" stranger external:4 80 p1a stranger
dropped "$t: with externalTrafficPolicy=Local, not in the range" outside external:4 80
served "$t: UDP" stranger external:5 80 "p1a p2a" "" udp
dropped "$t: UDP, not in the range" outside external:5 80 udp
step open <<'END'
some 1 lb=1 external=21 80@30080 : p1a p2a
END
served "$t: when the ranges go, everybody" stranger external:1 80 "p1a p2a"
finish
