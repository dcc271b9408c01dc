#!/bin/sh
# `kinglet cleanup` on a working node without an API server: it removes everything of kinglet's and nothing else. The pods on the
# node keep their bridge.
# tier: quick
# shellcheck source=SCRIPTDIR/../lab.sh
. /job/lab.sh

lab_up
api_up /job/cluster/recorded

make_foreign_state() {
  ip -n node-1 route add 198.51.100.0/24 via 192.0.2.254 proto static
  in_ns node-1 ipvsadm -A -t 192.0.2.99:80 -s rr
  in_ns node-1 ipvsadm -a -t 192.0.2.99:80 -r 192.0.2.254:80 -m
  in_ns node-1 nft add table inet other
}
make_foreign_state
on node-1 sh /run/lab/state | grep -v /proc/sys > /tmp/before
kinglet node-1 sync > /results/sync 2>&1
same "sync exits 0" 0 $?
check "there is something to clean up" test "$(ipvs node-1 | wc -l)" -gt 50
pod_add node-1 web-0 > /dev/null

kill "$api"
kinglet node-1 cleanup > /results/cleanup 2> /results/cleanup.err
same "cleanup exits 0 without the API" 0 $?
same "and has nothing to complain of" "" "$(cat /results/cleanup.err)"
same "kube-bridge stays while a pod is on it" 1 "$(ip -n node-1 -o link show kube-bridge | wc -l)"
check "the CNI configuration stays" test -s /run/lab/node-1/etc/cni/net.d/10-kuberouter.conflist
pod_del node-1 web-0
kinglet node-1 cleanup > /results/again 2>&1
same "when the pod is gone, kube-bridge goes too" "- link kube-bridge" "$(cut -d' ' -f1-3 /results/again)"
on node-1 sh /run/lab/state | grep -v /proc/sys > /tmp/after
same "all is as it was before" "$(cat /tmp/before)" "$(cat /tmp/after)"
kinglet node-1 cleanup > /results/third 2>&1
same "a third one has nothing to do" "0 " "$? $(cat /results/third)"
finish
