#!/bin/sh
# Objects that no API server should send, and very large ones: they do not affect other Services.
# tier: long
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

# others_served SENTENCE: the Service beside the odd objects is served.
others_served() {
  served "$1: the others are served" p1c cluster:1 80 "p1a p2a" p1c
  served "$1: the others are served, node port" outside node-1 30080 "p1a p2a"
  served "$1: the others are served, external IP" outside external:1 80 "p1a p2a"
}

start
serving node-1 host 22
serving node-1 taken 30085
serving outside outside 9000
step twice <<'END'
web 1 external=1 80@30080 : p1a p2a
one 2 external=2 80 : p1a
two 3 external=2 80 : p2a
other 4 external=2 81 : p3a
END
t="two Services have one external IP and port"
others_served "$t"
served "$t: the first at its ClusterIP" p1c cluster:2 80 p1a p1c
served "$t: the second at its ClusterIP" p1c cluster:3 80 p2a p1c
same_one "$t: one of them has it" outside external:2 80 "p1a p2a"
served "$t: another port of it is another's" outside external:2 81 p3a
check "$t: it is reported" grep -qE '(one|two).*203.0.113.2|203.0.113.2.*(one|two)' /results/twice.node-1.sync /results/twice.node-1.err
step once <<'END'
web 1 external=1 80@30080 : p1a p2a
two 3 external=2 80 : p2a
other 4 external=2 81 : p3a
END
served "$t: when one goes, the other has it" outside external:2 80 p2a

step taken <<'END'
web 1 external=1 80@30080 : p1a p2a
taken 5 80@30085 : p1a
END
t="a program of the host listens on a node port"
others_served "$t"
check "$t: it is reported" grep -q 'unmet.*30085' /results/taken.node-1.err
served "$t: its Service at its ClusterIP" p1c cluster:5 80 p1a p1c
served "$t: at another node" outside node-2 30085 p1a

step many <<'END'
web 1 external=1 80@30080 : p1a p2a
many 6 external=6 1000..1999 : p1a p2a
END
t="1,000 ports in one Service"
others_served "$t"
for port in 1000 1500 1999; do served "$t: $port" p1c cluster:6 $port "p1a p2a" p1c; done
served "$t: at an external IP" outside external:6 1999 "p1a p2a"
refused "$t: not the next one" p1c cluster:6 2000

step zero <<'END'
web 1 external=1 80@30080 : p1a p2a
zero 7 0/tcp u=82/udp : p1a p2a
none 8 : p1a
targetless 9 80>0 : p1a
END
t="port 0, no ports, target port 0"
others_served "$t"
unserved "$t: a port 0 is not every port" p1c cluster:7 22
check "$t: it is reported" grep -q 'unmet.*zero' /results/zero.node-1.err
unserved "$t: a Service without ports" p1c cluster:8 22
unserved "$t: a target port 0" p1c cluster:9 80

step addresses <<'END'
web 1 external=1 80@30080 : p1a p2a
loop 10 external=127.0.0.1,::1 22>8080 : p1a
all 11 external=0.0.0.0,:: 22>8080 : p1a
many 12 external=224.0.0.1,ff02::1,255.255.255.255 22>8080 : p1a
junk 13 external=not-an-address,300.1.1.1,192.0.2.0/24 80 : p1a
END
t="external IPs that no Service may have (loopback, unspecified, multicast, not an address)"
others_served "$t"
check "$t: text that is not an address is reported" grep -q 'unmet.*junk.*not-an-address' /results/addresses.node-1.err
served "$t: the host at its loopback" node-1 127.0.0.1 22 host
served "$t: the host at its address" outside node-1 22 host outside
served "$t: the host reaches others" node-1 outside 9000 outside node-1
for n in 10 11 12; do served "$t: the Services at their ClusterIPs ($n)" p1c cluster:$n 22 p1a p1c; done

long=$(printf '%063d' 0 | tr 0 a)
step names <<'END'
web 1 external=1 80@30080 : p1a p2a
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 15 external=15 aaaaaaaaaaaaaaa=80@30086 b=81>8081 : p1a p2a
END
t="names at their length limits (${#long} and 15)"
others_served "$t"
served "$t: the first port" p1c cluster:15 80 "p1a p2a" p1c
served "$t: the second port" p1c cluster:15 81 "p1a-too p2a-too" p1c
served "$t: the node port" outside node-1 30086 "p1a p2a"

step family <<'END'
web 1 external=1 80@30080 : p1a p2a
four 16 families=4 external=2001:db8:cb::16 80 : p1a p2a
END
FAMILIES=4
others_served "an external IP of a family that the Service has not"
served "an external IP of a family that the Service has not: its ClusterIP" p1c cluster:16 80 "p1a p2a" p1c
finish
