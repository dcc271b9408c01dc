#!/bin/sh
# One `kinglet sync` on each of three nodes makes them members of the recorded cluster; a second one changes nothing; then the
# cluster changes four times, and `sync` takes the steps that `plan` printed.
# tier: quick
# shellcheck source=SCRIPTDIR/../lab.sh
. /job/lab.sh

lab_up
api_up /job/cluster/recorded

# State of other programs, which kinglet must not change.
make_foreign_state() {
  ip -n node-1 route add 198.51.100.0/24 via 192.0.2.254 proto static
  ip -n node-1 addr add 192.0.2.99/32 dev eth0
  in_ns node-1 ipvsadm -A -t 192.0.2.99:80 -s rr
  in_ns node-1 ipvsadm -a -t 192.0.2.99:80 -r 192.0.2.254:80 -m
}
foreign() {
  in_ns node-1 ip route show proto static
  in_ns node-1 ip -o addr show to 192.0.2.99 | sed 's/^[0-9]*: //'
  ipvs node-1 | grep 192.0.2.99
}

# The first node's kernel cannot load a module by itself, as on a box without modprobe.
echo /none > /proc/sys/kernel/modprobe
check_join node-2
echo /sbin/modprobe > /proc/sys/kernel/modprobe
same "kinglet loads its modules itself" "br_netfilter dummy ip_vs ip_vs_rr nf_tables" \
  "$(lsmod | cut -d' ' -f1 | grep -xE 'br_netfilter|dummy|ip_vs|ip_vs_rr|nf_tables' | sort | xargs)"
make_foreign_state
before=$(foreign)
check_join node-1
check_join node-3

same "node-1 has a route to each other node's pods" \
"10.244.1.0/24 via 192.0.2.12 dev eth0 
10.244.2.0/24 via 192.0.2.13 dev eth0 " "$(in_ns node-1 ip route show proto 17)"
same "node-2 has them too" \
"10.244.0.0/24 via 192.0.2.11 dev eth0 
10.244.2.0/24 via 192.0.2.13 dev eth0 " "$(in_ns node-2 ip route show proto 17)"
for node in $NODES; do
  same "$node: ipvsadm lists exactly the Services" "$(cat "/job/cluster/recorded/$node")" \
    "$(ipvs "$node" | grep -v 192.0.2.99)"
done

recorded_pods | { while read -r node pod address; do
  same "$pod on $node has its recorded address" "$address" "$(pod_add "$node" "$pod")"
done; echo "$passed $failed" > /tmp/counts; }
read -r passed failed < /tmp/counts
pod_add node-1 client > /dev/null
same "node-1's pod CIDR is on kube-bridge" "10.244.0.0/24 proto kernel scope link src 10.244.0.1 " \
  "$(in_ns node-1 ip route show dev kube-bridge)"
same "a pod on node-1 reaches one on node-2" "web-1 10.244.0.8" "$(in_ns client /job/probe http 10.244.1.2 8080)"
same "a pod on node-1 reaches one on node-3" "web-2 10.244.0.8" "$(in_ns client /job/probe http 10.244.2.2 8080)"
same "a pod on node-1 reaches one on node-1" "web-3 10.244.0.8" "$(in_ns client /job/probe http 10.244.0.3 8080)"

check_rotation "requests of a node" node-2 10.96.122.86 192.0.2.12
check_rotation "requests of a pod" client 10.96.122.86 10.244.0.8
for pod in dns-0 dns-1; do in_ns $pod /job/probe serve $pod 53 > /dev/null 2>&1 & done
sleep 0.5
same "UDP goes round too" "dns-0 dns-0 dns-1 dns-1" \
  "$(for _ in 1 2 3 4; do in_ns client /job/probe udp 10.96.0.10 53; done | cut -d' ' -f1 | sort | xargs)"
same "a Service without endpoints refuses at once" "probe: Connection refused" "$(ask client 10.96.27.102 80 1)"
same "ClientIP affinity: the same endpoint again" 1 "$(ask client 10.96.229.253 80 5 | sort -u | wc -l)"

for node in $NODES; do quiet "$node"; done

# check_change CHANGE: the cluster changes; sync takes exactly the steps of plan, and then plan has no steps.
check_change() {
  objects "/job/cluster/$1"
  for node in ${2:-$NODES}; do
    kinglet "$node" plan > /tmp/plan 2>/dev/null; code=$?
    kinglet "$node" sync > /tmp/sync 2> /tmp/err
    same "$1: sync on $node exits 0" 0 $?
    same "$1: plan on $node exits with 2, because there are steps" 2 $code
    same "$1: sync on $node takes the steps of plan" "$(grep -v '^!' /tmp/plan)" "$(grep -v '^!' /tmp/sync)"
    kinglet "$node" plan > /tmp/plan 2>&1
    same "$1: then plan on $node has nothing to do" 0 $?
    same "$1: ipvsadm on $node lists exactly the Services" "$(cat "/job/cluster/$1/$node")" "$(ipvs "$node" | grep -v 192.0.2.99)"
    cp /tmp/sync "/results/$1.$node.sync"
  done
}
check_change service-gone
same "the Service's address is gone" "" "$(in_ns node-1 ip -o addr show to 10.96.122.86)"
check_change endpoint-moved
check_change podcidr-changed
same "node-1's route follows" "10.244.9.0/24 via 192.0.2.12 dev eth0 proto 17 " "$(in_ns node-1 ip route show 10.244.9.0/24)"
same "node-2's CNI configuration follows" '"subnet":"10.244.9.0/24"' \
  "$(grep -o '"subnet":"[^"]*"' /run/lab/node-2/etc/cni/net.d/10-kuberouter.conflist)"
objects /job/cluster/recorded
for node in $NODES; do kinglet "$node" sync > /dev/null 2>&1; done
check_change node-gone "node-1 node-2"
same "node-1 has no route to it" "" "$(in_ns node-1 ip route show 10.244.2.0/24)"
same "what others made is as it was" "$before" "$(foreign)"
finish
