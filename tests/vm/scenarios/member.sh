#!/bin/sh
# One `kinglet sync` on each of three nodes makes them members of the recorded cluster; a second one
# changes nothing; then the cluster changes four times, and `sync` does what `plan` said.
# shellcheck source=SCRIPTDIR/../lab.sh
. /job/lab.sh

lab_up
api_up /job/cluster/recorded

# traced NODE COMMAND...: kinglet under strace, into /results/NODE.strace.
traced() {
  node=$1; shift
  on "$node" strace -f -o "/results/$node.strace" \
    -e trace=sendto,sendmsg,sendmmsg,write,pwrite64,rename,renameat,renameat2,finit_module \
    /job/kinglet "$@" --master "$API" --hostname-override "$node"
}

# writes NODE: what of it could change anything. Netlink messages but dumps (0x300) and the question for
# a family's number (0x10), bytes to other than stdout and stderr, files put in place, modules.
writes() {
  grep -E 'nlmsg_type|sendm|write.*\(([3-9]|[1-9][0-9]+),|rename|finit_module' "/results/$1.strace" |
    grep -Ev 'NLM_F_REQUEST\|(0x300|NLM_F_DUMP)|nlmsg_type=0x10 '
}

# What others made, and kinglet must leave as it is.
others_make() {
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

joins() { # NODE
  kinglet "$1" plan > "/results/$1.plan" 2> /dev/null
  same "$1: plan exits 2 where there is all to do" 2 $?
  traced "$1" sync > "/results/$1.sync" 2> "/results/$1.err"
  same "$1: sync exits 0" 0 $?
  same "$1: sync does what plan said" "$(grep -v '^!' "/results/$1.plan")" "$(cat "/results/$1.sync")"
  check "$1: strace saw it write" test "$(writes "$1" | wc -l)" -ge 5
}

# The first has a kernel that can't load a module by itself, as on a box without modprobe.
echo /none > /proc/sys/kernel/modprobe
joins node-2
echo /sbin/modprobe > /proc/sys/kernel/modprobe
same "kinglet loads its modules itself" "br_netfilter dummy ip_vs ip_vs_rr nf_tables" \
  "$(lsmod | cut -d' ' -f1 | grep -xE 'br_netfilter|dummy|ip_vs|ip_vs_rr|nf_tables' | sort | xargs)"
others_make
before=$(foreign)
joins node-1
joins node-3

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

# web: web-0 and web-3 on node-1, web-1 on node-2, web-2 on node-3. Eight requests: twice around.
ask() { # NAMESPACE ADDRESS PORT TIMES
  for _ in $(seq "$4"); do in_ns "$1" /job/probe http "$2" "$3" || echo "code $?"; done
}
rotates() { # SENTENCE NAMESPACE CLIENT
  ask "$2" 10.96.122.86 80 8 > /tmp/answers
  same "$1: four endpoints, each once a round" "web-0 web-1 web-2 web-3" \
    "$(head -4 /tmp/answers | cut -d' ' -f1 | sort | xargs)"
  same "$1: the second round is as the first" "$(head -4 /tmp/answers)" "$(tail -4 /tmp/answers)"
  same "$1: they see who asks" "$3" "$(cut -d' ' -f2 /tmp/answers | sort -u | xargs)"
}
rotates "requests of a node" node-2 "192.0.2.12"
rotates "requests of a pod" client 10.244.0.8
same "a Service without endpoints refuses at once" "code 7" "$(ask client 10.96.27.102 80 1)"
same "ClientIP affinity: the same endpoint again" 1 "$(ask client 10.96.229.253 80 5 | sort -u | wc -l)"

# Nothing to do is nothing done: neither is anything said, nor does the kernel tell of a change (ip
# monitor: links, addresses, routes; nft monitor: our record; strace: what was sent at all).
quiet() { # NODE
  state "$1" > /tmp/before
  in_ns "$1" ip -o monitor link address route rule > /tmp/monitor 2>&1 & ip_pid=$!
  in_ns "$1" nft monitor > /tmp/nft 2>&1 & nft_pid=$!
  sleep 1
  traced "$1" sync > /tmp/second 2> /tmp/said
  same "$1: a second sync exits 0" 0 $?
  same "$1: a second sync has no steps" "" "$(cat /tmp/second)"
  sleep 1; kill $ip_pid $nft_pid
  # A pod's port settles in its own time.
  same "$1: the kernel told of no change meanwhile" "" "$(grep -v ': veth' /tmp/monitor; grep -v '^#' /tmp/nft)"
  same "$1: all is as it was" "$(cat /tmp/before)" "$(state "$1")"
  same "$1: strace saw it write nothing" "" "$(writes "$1")"
}
for node in $NODES; do quiet "$node"; done

# happens WHAT: the cluster changes; sync does exactly what plan said, and then plan has nothing to do.
happens() {
  objects "/job/cluster/$1"
  for node in ${2:-$NODES}; do
    kinglet "$node" plan > /tmp/plan 2>/dev/null; code=$?
    kinglet "$node" sync > /tmp/sync 2> /tmp/err
    same "$1: sync on $node exits 0" 0 $?
    same "$1: plan on $node says that there is something to do" 2 $code
    same "$1: sync on $node does what plan said" "$(grep -v '^!' /tmp/plan)" "$(grep -v '^!' /tmp/sync)"
    kinglet "$node" plan > /tmp/plan 2>&1
    same "$1: then plan on $node has nothing to do" 0 $?
    same "$1: ipvsadm on $node lists exactly the Services" "$(cat "/job/cluster/$1/$node")" "$(ipvs "$node" | grep -v 192.0.2.99)"
    cp /tmp/sync "/results/$1.$node.sync"
  done
}
happens service-gone
same "the Service's address is gone" "" "$(in_ns node-1 ip -o addr show to 10.96.122.86)"
happens endpoint-moved
happens podcidr-changed
same "node-1's route follows" "10.244.9.0/24 via 192.0.2.12 dev eth0 proto 17 " "$(in_ns node-1 ip route show 10.244.9.0/24)"
same "node-2's CNI configuration follows" '"subnet":"10.244.9.0/24"' \
  "$(grep -o '"subnet":"[^"]*"' /run/lab/node-2/etc/cni/net.d/10-kuberouter.conflist)"
objects /job/cluster/recorded
for node in $NODES; do kinglet "$node" sync > /dev/null 2>&1; done
happens node-gone "node-1 node-2"
same "node-1 has no route to it" "" "$(in_ns node-1 ip route show 10.244.2.0/24)"
same "what others made is as it was" "$before" "$(foreign)"
finish
