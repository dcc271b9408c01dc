#!/bin/sh
# Three daemons follow a cluster that changes: each event has the result of a full pass, state that others remove is restored, and
# neither a kill nor a reboot without the API breaks a Service.
# tier: quick
# time: virtual
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

ended() { # NODE: its exit code is in $code, within a second
  (sleep 1; kill -KILL "$(cat "/run/lab/$1.daemon")" 2> /dev/null) & guard=$!
  wait "$(cat "/run/lab/$1.daemon")"; code=$?
  kill $guard 2> /dev/null
}

right() { on "$1" /job/kinglet status; }
apply_step() { # STEP: changes the cluster, and waits until all nodes have applied it
  echo "  $1"
  objects "$(folder "$1")"
  sleep 0.5
  for node in $NODES; do within 10 "$1: $node has all of it" settled "$node"; done
}

start
sysctl -qw net.netfilter.nf_conntrack_max=262144  # the machine is small, the load is not
for node in $NODES; do daemon "$node" --metrics-port 9100; done
for node in $NODES; do within 10 "$node is right" right "$node"; done

text one <<'END'
web 1 80@30080 : p1a p2a
dns 2 53/udp : p1b p3b
END
apply_step one
served "a Service that is new" p1c cluster:1 80 "p1a p2a" p1c
served "at a NodePort" outside node-1 30080 "p1a p2a"
served "by UDP" p1c cluster:2 53 "p1b p3b" "" udp
text more <<'END'
web 1 80@30080 : p1a p2a p3a
dns 2 53/udp : p3b
ext 3 80 external=33 etp=Local type=LoadBalancer health=32333 : p1b p2b
END
apply_step more
served "an endpoint that is new" p1c cluster:1 80 "p1a p2a p3a" p1c
served "an endpoint of UDP that went" p1c cluster:2 53 p3b "" udp
served "from inside, a Local policy serves all" p1c external:33 80 "p1b p2b"
served "from outside, those of the node" stranger external:33 80 p1b stranger
health() { busybox wget -S -O /dev/null "http://$(at "$1" 4):32333/" 2>&1 | sed -n 's/.*HTTP\/1.1 \([0-9]*\).*/\1/p' | head -1; }
same "healthCheckNodePort answers well where an endpoint is" 200 "$(health node-1)"
same "and a node without an endpoint answers 503" 503 "$(health node-3)"
text moved <<'END'
web 1 81@30081 : p2a~ p3a
ext 3 80 external=33 : p2b
new 4 80 external=34 affinity=600 : p1b / p2b
END
apply_step moved
served "a port that moved" p1c cluster:1 81 p3a p1c
refused "the port that it had" p1c cluster:1 80
unserved "a Service that is gone" p1c cluster:2 53 udp
served "a policy that changed" stranger external:33 80 p2b
same_one "affinity" p1c external:34 80 "p1b p2b"
text none <<'END'
web 1 81 :
new 4 80 external=34 : p2b
END
apply_step none
refused "no endpoint left" p1c cluster:1 81
apply_step one
served "all back" p1c cluster:1 80 "p1a p2a" p1c

# State that others remove.
ipvsadm_of() { in_ns "$1" ipvsadm -Sn | sort; }
for node in $NODES; do ipvsadm_of "$node" > "/tmp/ipvs.$node"; done
in_ns node-1 ipvsadm -d -t 10.96.1.1:80 -r 10.244.0.2:8080
in_ns node-2 ipvsadm -C
back() { [ "$(ipvsadm_of "$1")" = "$(cat "/tmp/ipvs.$1")" ]; }
within 8 "a removed real server is restored" back node-1
within 8 "all of IPVS too" back node-2
in_ns node-1 nft delete table inet kinglet
within 2 "our table is back" settled node-1
for t in iptables ip6tables; do in_ns node-2 $t -P FORWARD DROP; done
pods() { for f in $FAMILIES; do from p2a /job/probe http "$(at p1a "$f")" 8080 || return; done; }
within 2 "another firewall begins to drop: pods get through" pods
in_ns node-2 nft delete table inet kinglet
within 2 "our table is back there too" settled node-2
for t in iptables ip6tables; do in_ns node-2 $t -F FORWARD; done
within 2 "our rule in its chain is back" settled node-2
within 2 "and pods get through" pods
for t in iptables ip6tables; do in_ns node-2 $t -P FORWARD ACCEPT; done
within 2 "it is removed when no chain drops any more" settled node-2
in_ns node-3 ip link del kube-dummy-if
within 2 "the dummy link and its addresses are back" settled node-3
in_ns node-2 sh -c 'ip link set eth0 down; ip link set eth0 up; ip route add default via 192.0.2.254
  ip addr add 2001:db8::2/64 dev eth0 nodad'
within 2 "a link bounced" settled node-2
# The other nodes' neighbour entries for node-2 are renewed by the kernel in its own time.
for f in $FAMILIES; do within 10 "its pods are found again (IPv$f)" from p1c /job/probe http "$(at p2a "$f")" 8080; done
served "and all is served" p1c cluster:1 80 "p1a p2a" p1c

killed 12

# The daemon ends at once and leaves a working node; a reboot without the API loses nothing.
for node in $NODES; do signal "$node" TERM; done
for node in $NODES; do ended "$node"; same "$node: it ends well and at once" 0 $code; done
served "without the daemon" p1c cluster:1 80 "p1a p2a" p1c
kill "${api:?}"
kinglet node-1 cleanup > /results/cleanup 2>&1
same "cleanup exits 0" 0 $?
same "nothing of IPVS is left" "" "$(in_ns node-1 ipvsadm -Sn)"
same "nor of nftables, routes, addresses" "" "$(in_ns node-1 sh -c 'nft list tables; ip route show proto 17; ip -o link show type dummy')"
unserved "nor of the Service" node-1 cluster:1 80
daemon node-1
serves() { from p1c /job/probe http "$(at cluster:1 4)" 80; }
within 5 "without the API it works from the snapshot" serves
served "it is served from the snapshot" p1c cluster:1 80 "p1a p2a" p1c
on node-1 /job/kinglet status > /results/status 2>&1
check "and status reports it" grep "IN USE" /results/status
check "and which Service is busy" grep -q "tcp 10.96.1.1:80 .*/web  .* connections" /results/status
finish
