#!/bin/sh
# Both families at once: pods, routes and Services over IPv6 and IPv4.
# tier: quick
# shellcheck source=SCRIPTDIR/../lab.sh
. /job/lab.sh

lab_up
api_up /job/cluster/dualstack
for node in $NODES; do check_join "$node"; done
same "node-1 has IPv6 routes to the other nodes' pods" "fd00:10:244:1::/64 via 2001:db8::2
fd00:10:244:2::/64 via 2001:db8::3" "$(in_ns node-1 ip -6 route show proto 17 | sed 's/ dev .*//')"
for node in $NODES; do
  same "$node: ipvsadm lists exactly the Services" "$(cat "/job/cluster/dualstack/$node")" "$(ipvs "$node")"
done
for pod in web-0:node-1 web-3:node-1 web-1:node-2 web-2:node-3 client:node-1; do
  pod_add "${pod#*:}" "${pod%:*}" > /dev/null
done
same "a pod on node-1 reaches one on node-3 by IPv6" "web-2 fd00:10:244::4" "$(in_ns client /job/probe http fd00:10:244:2::2 8080)"
check_rotation "IPv6 requests of a pod" client fd00:10:96::1add fd00:10:244::4
check_rotation "IPv6 requests of a node" node-2 fd00:10:96::1add 2001:db8::2
check_rotation "IPv4 requests of a node" node-2 10.96.207.217 192.0.2.12
for node in $NODES; do quiet "$node"; done
finish
