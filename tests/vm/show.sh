#!/bin/sh
# What `tests/try` shows: three nodes made members by kinglet, as ip, ipvsadm and a client see them.
# shellcheck source=SCRIPTDIR/lab.sh
. /job/lab.sh

show() { # SENTENCE COMMAND...
  printf '\n%s\n' "$1"; shift
  printf '  # %s\n' "$*"
  "$@" 2>&1 | sed 's/^/  /'
}

lab_up
api_up /job/cluster/recorded
echo "$(uname -sr): three nodes (192.0.2.11, .12, .13) and an API server with a recorded cluster."
printf '\nOn each node: kinglet sync --master %s --hostname-override NODE\n' "$API"
for node in $NODES; do
  kinglet "$node" sync > /tmp/steps 2>/tmp/said || { cat /tmp/said; exit 1; }
  echo "  $node: $(wc -l < /tmp/steps) steps, then $(kinglet "$node" sync 2>/dev/null | grep -c '^[-+~]') more by a second sync"
done
show "The first steps on node-1:" head -12 "/tmp/steps"
recorded_pods | while read -r node pod _; do pod_add "$node" "$pod" > /dev/null; done
pod_add node-1 client > /dev/null
show "The CNI configuration that kinglet wrote on node-1, with which Debian's plugins made its pods:" \
  on node-1 cat /etc/cni/net.d/10-kuberouter.conflist
show "Routes of node-1: its own pods on kube-bridge, the other nodes' by those nodes:" in_ns node-1 ip route
show "IPVS on node-1 (of Service web):" in_ns node-1 ipvsadm -Ln -t 10.96.122.86:80

rounds() { for _ in 1 2 3 4 5 6 7 8; do in_ns "$1" /job/probe http 10.96.122.86 80; done; }
show "A pod of node-1 asks web at its ClusterIP; pods on three nodes answer in turn (NAME CLIENT):" rounds client
show "And so for node-2 itself:" rounds node-2
answers=$(rounds client | cut -d' ' -f1)
[ "$(echo "$answers" | sort | uniq -c | awk '{ print $1 }' | xargs)" = "2 2 2 2" ] || { echo "not in rotation"; exit 1; }
