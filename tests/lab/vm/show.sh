#!/bin/sh
# The demonstration of tests/try: kinglet makes three nodes members of a cluster; ip, ipvsadm and a client show the result.
# shellcheck source=SCRIPTDIR/lab.sh
. /job/lab.sh

show() { # SENTENCE NODE COMMAND...
  printf '\n%s\n  %s# ' "$1" "$2"; shift
  on=$1; shift
  echo "$*"
  on "$on" "$@" 2>&1 | sed 's/^/  /'
}

lab_up
api_up /job/cluster/recorded
echo "$(uname -sr): three nodes (192.0.2.11, .12, .13) and an API server with a recorded cluster."
printf '\nOn each node: kinglet sync --master %s --hostname-override NODE\n' "$API"
for node in $NODES; do
  kinglet "$node" sync > "/tmp/$node.steps" 2>/tmp/errors || { cat /tmp/errors; exit 1; }
  echo "  $node: $(wc -l < "/tmp/$node.steps") steps, then $(kinglet "$node" sync 2>/dev/null | grep -c '^[-+~]') more by a second sync"
done
printf '\nThe first of those on node-1:\n'; head -12 /tmp/node-1.steps | sed 's/^/  /'
recorded_pods | while read -r node pod _; do pod_add "$node" "$pod" > /dev/null; done
pod_add node-1 client > /dev/null
show "The CNI configuration that kinglet wrote on node-1, with which Debian's plugins made its pods:" \
  node-1 cat /etc/cni/net.d/10-kuberouter.conflist
show "Routes of node-1: its own pods on kube-bridge, the other nodes' by those nodes:" node-1 ip route
show "IPVS on node-1 (of Service web):" node-1 ipvsadm -Ln -t 10.96.122.86:80

request_web() { # NAMESPACE
  for _ in 1 2 3 4 5 6 7 8; do in_ns "$1" /job/probe http 10.96.122.86 80; done | tee /tmp/answers | sed 's/^/  /'
}
printf '\nA pod of node-1 asks Service web at its ClusterIP; pods on three nodes answer in turn (NAME CLIENT):\n'
request_web client
printf '\nAnd node-2 itself:\n'
request_web node-2
[ "$(cut -d' ' -f1 /tmp/answers | sort | uniq -c | awk '{ print $1 }' | xargs)" = "2 2 2 2" ]
