#!/bin/sh
# Flags of the service proxy: the addresses of node ports, masquerading, the timeouts of IPVS; and the end of session affinity.
# tier: quick
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
in_ns node-1 ip addr add 192.0.2.111/24 dev eth0
in_ns node-1 ip addr add 2001:db8::111/64 dev eth0 nodad preferred_lft 0 # no packet's own choice
step one <<'END'
web 1 80@30080 : p1a p2a
far 2 80 : p2a
sticky 3 affinity=5 80/udp : p1a p2a p3a
END
first() { "$1" "$2: the first address" outside node-1 30080 ${3:+"$3"}; }
second() {
  FAMILIES=4; "$1" "$2: the second address" outside 192.0.2.111 30080 ${3:+"$3"}
  FAMILIES=6; "$1" "$2: the second address" outside 2001:db8::111 30080 ${3:+"$3"}
  FAMILIES="4 6"
}
timeouts() { in_ns node-1 ipvsadm -L --timeout; }
t="node ports, by default"
first served "$t" "p1a p2a"
second refused "$t"
served "by default a Service sees who asks" p1c cluster:2 80 p2a p1c

FLAGS="--nodeport-addresses=192.0.2.96/27,2001:db8::100/120 --masquerade-all --service-udp-timeout=2s --service-tcpfin-timeout=1m"
synced one
t="--nodeport-addresses"
first refused "$t"
second served "$t" "p1a p2a"
served "--masquerade-all" p1c cluster:2 80 p2a node-1
same "timeouts: what is not given stays" "Timeout (tcp tcpfin udp): 900 60 2" "$(timeouts)"
quiet node-1
same_one "session affinity holds" p1c cluster:3 80 "p1a p2a p3a" udp
for _ in 1 2 3; do
  sleep 9
  for f in 4 6; do from p1c /job/probe udp "$(at cluster:3 $f)" 80 2>&1 | sed 's/ .*//' >> /tmp/turns.$f; done
done
for f in 4 6; do
  same "session affinity ends when its time is over: each in turn (IPv$f)" "p1a p2a p3a" "$(sort /tmp/turns.$f | xargs)"
done

# shellcheck disable=SC2034  # lab.sh's
FLAGS=--nodeport-bindon-all-ip
synced one
t="--nodeport-bindon-all-ip"
first served "$t" "p1a p2a"
second served "$t" "p1a p2a"
served "without --masquerade-all a Service sees again who asks" p1c cluster:2 80 p2a p1c
same "timeouts stay as they were set last" "Timeout (tcp tcpfin udp): 900 60 2" "$(timeouts)"
finish
