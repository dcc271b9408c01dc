#!/bin/sh
# Services whose type, labels, ports or session affinity change (service.go and networking.go of Kubernetes' e2e tests).
# tier: long
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
step before <<'END'
a 1 type=ExternalName 80 : p1a p2a
b 2 type=ExternalName 80 : p1a p2a
c 3 80 : p1a p2a
d 4 80@30004 : p1a p2a
port 5 80@30005 : p1a p2a
proto 6 80/tcp : p1a p2a
target 7 80 : p1a p2a
labelled 8 label=service.kubernetes.io/service-proxy-name:foo 80@30008 : p1a p2a
ours 9 label=service.kubernetes.io/service-proxy-name:kube-router 80 : p1a p2a
headless 10 label=service.kubernetes.io/headless: 80 : p1a p2a
plain 11 80 : p1a p2a
bare 12 80 : p1a p2a
ext 13 external=13 80 : p1a p2a
END
for n in 1 2; do unserved "an ExternalName has no address" p1c cluster:$n 80; done
served "the others: ClusterIP" p1c cluster:3 80 "p1a p2a" p1c
served "the others: NodePort" outside node-1 30004 "p1a p2a"
t="should implement service.kubernetes.io/service-proxy-name"
unserved "$t" p1c cluster:8 80
unserved "$t: from a node" node-1 cluster:8 80
unserved "$t: node port" outside node-1 30008
unserved "$t: whatever its value" p1c cluster:9 80
unserved "should implement service.kubernetes.io/headless" p1c cluster:10 80
unserved "should implement service.kubernetes.io/headless: from a node" node-1 cluster:10 80
step after <<'END'
a 1 80 : p1a p2a
b 2 80@30002 : p1a p2a
c 3 type=ExternalName 80 : p1a p2a
d 4 type=ExternalName 80@30004 : p1a p2a
port 5 80@30105 : p1a p2a
proto 6 80/udp : p1a p2a
target 7 80>8081 : p1a p2a
labelled 8 80@30008 : p1a p2a
ours 9 80 : p1a p2a
headless 10 80 : p1a p2a
plain 11 label=service.kubernetes.io/service-proxy-name:foo 80 : p1a p2a
bare 12 label=service.kubernetes.io/headless: 80 : p1a p2a
ext 13 external=14 80 : p1a p2a
END
served "should be able to change the type from ExternalName to ClusterIP" p1c cluster:1 80 "p1a p2a" p1c
served "should be able to change the type from ExternalName to NodePort" p1c cluster:2 80 "p1a p2a" p1c
served "should be able to change the type from ExternalName to NodePort: at it" outside node-1 30002 "p1a p2a"
unserved "should be able to change the type from ClusterIP to ExternalName" p1c cluster:3 80
unserved "should be able to change the type from NodePort to ExternalName" p1c cluster:4 80
unserved "should be able to change the type from NodePort to ExternalName: at it" outside node-1 30004
served "should be able to update service type/port: nodePort" outside node-1 30105 "p1a p2a"
unserved "should be able to update service type/port: nodePort, the old one" outside node-1 30005
t="should be able to switch protocols (TCP to UDP)"
served "$t" p1c cluster:6 80 "p1a p2a" p1c udp
refused "$t: TCP no more" p1c cluster:6 80
served "the target port changes" p1c cluster:7 80 "p1a-too p2a-too" p1c
t="should implement service.kubernetes.io/service-proxy-name"
served "$t: the label goes" p1c cluster:8 80 "p1a p2a" p1c
served "$t: the label goes, node port" outside node-1 30008 "p1a p2a"
unserved "$t: the label comes" p1c cluster:11 80
served "should implement service.kubernetes.io/headless: the label goes" p1c cluster:10 80 "p1a p2a" p1c
unserved "should implement service.kubernetes.io/headless: the label comes" p1c cluster:12 80
served "an external IP changes" outside external:14 80 "p1a p2a"
unserved "an external IP changes: the old one" outside external:13 80

step affine <<'END'
web 1 affinity=10800 external=1 80/tcp@30080 u=80/udp@30080 : p1a p2a p3a
near 2 type=NodePort etp=Local affinity=10800 80@30081 : p1a p1b p2a
two 3 affinity=10800 80 : p1a p2a
END
all="p1a p2a p3a"
t="should have session affinity work for service with type clusterIP"
same_one "$t" p1c cluster:1 80 "$all"
same_one "$t: from a node" node-1 cluster:1 80 "$all"
t="should have session affinity work for NodePort service"
same_one "$t" outside node-1 30080 "$all"
same_one "$t: from a pod" p1c node-1 30080 "$all"
same_one "$t: with externalTrafficPolicy=Local" outside node-1 30081 "p1a p1b"
same_one "at an external IP" outside external:1 80 "$all"
t="should support client IP based session affinity: udp"
same_one "$t" p1c cluster:1 80 "$all" udp
same_one "$t: at a node port" outside node-1 30080 "$all" udp
for f in $FAMILIES; do
  for who in p1c p1b p2b p3b node-1 node-2; do from $who /job/probe http "$(at cluster:1 "$f")" 80 2>&1; done > /tmp/answers
  check "clients differ in their endpoints (IPv$f)" test "$(cut -d' ' -f1 /tmp/answers | sort -u | wc -l)" -gt 1
done

# The endpoint that the client of `two` has in each family stays, while the other one is removed and added; then it is removed.
same_one "affinity: which endpoint" p1c cluster:3 80 "p1a p2a"
chosen4=$(cat /tmp/one.4) chosen6=$(cat /tmp/one.6)
step only-p1a <<'END'
web 1 affinity=10800 external=1 80/tcp@30080 u=80/udp@30080 : p1a p2a p3a
two 3 affinity=10800 80 : p1a
END
same_one "affinity: moves when its own endpoint goes, stays when another does" p1c cluster:3 80 p1a
step only-p2a <<'END'
web 1 affinity=10800 external=1 80/tcp@30080 u=80/udp@30080 : p1a p2a p3a
two 3 affinity=10800 80 : p2a
END
same_one "affinity: moves when its own endpoint goes" p1c cluster:3 80 p2a
step grown <<'END'
web 1 affinity=10800 external=1 80/tcp@30080 u=80/udp@30080 : p1a p2a p3a
two 3 affinity=10800 80 : p1a p1b p2a p2b p3a
END
same_one "affinity: survives that others come" p1c cluster:3 80 p2a
step shrunk <<'END'
web 1 affinity=10800 external=1 80/tcp@30080 u=80/udp@30080 : p1a p2a p3a
two 3 affinity=10800 80 : p2a p3a
END
same_one "affinity: survives that others go" p1c cluster:3 80 p2a
echo "  (the first choice was $chosen4 by IPv4, $chosen6 by IPv6)"

step rotating <<'END'
web 1 external=1 80/tcp@30080 u=80/udp@30080 : p1a p2a p3a
two 3 80 : p2a p3a
END
t="should be able to switch session affinity for service with type clusterIP"
served "$t: off" p1c cluster:1 80 "$all" p1c
served "$t: off, UDP" p1c cluster:1 80 "$all" p1c udp
t2="should be able to switch session affinity for NodePort service"
served "$t2: off" outside node-1 30080 "$all"
step affine
same_one "$t: on" p1c cluster:1 80 "$all"
same_one "$t2: on" outside node-1 30080 "$all"
finish
