#!/bin/sh
# shellcheck disable=SC2317  # the parts are called by their names
# scenario.sh ARCH PART...: a board joins a cluster whose other nodes are in this machine. See run.
# shellcheck source=SCRIPTDIR/../vm/lab.sh
. /job/lab.sh
# shellcheck source=SCRIPTDIR/steps.sh
. /job/steps.sh
# shellcheck source=SCRIPTDIR/missing.sh
. /job/missing.sh

arch=$1; shift
# shellcheck disable=SC2034 # for lab.sh
NODES="node-2 node-3"
MOST=4096  # KiB: the limit of memory with 10 nodes and 50 Services

lab_up
ip link set eth0 master lan up
api_up /job/cluster/recorded
for node in $NODES; do
  kinglet "$node" sync > "/results/$node.sync" 2>&1
  same "$node: sync exits 0" 0 $?
done
recorded_pods | while read -r node pod _; do
  case $node in node-1) ;; *) pod_add "$node" "$pod" > /dev/null ;; esac
done

# tier: quick
part_boot() {
  print_times "boot"
  same "a route to each other node's pods" \
"10.244.1.0/24 via 192.0.2.12 dev eth0 
10.244.2.0/24 via 192.0.2.13 dev eth0 " "$(board /test/ip route show proto 17)"
  within 10 "IPVS has exactly the Services" is_table recorded
  within 10 "status reports that the node is right" board kinglet status
  # In the order in which host-local gives the recorded Pods their recorded addresses.
  same "web-0 on the board" 10.244.0.2 "$(board /test/pod web-0)"
  same "web-3 on the board" 10.244.0.3 "$(board /test/pod web-3)"
  sleep 1
  board "for _ in 1 2 3 4 5 6 7 8; do /test/probe http 10.96.122.86 80; done" > /tmp/answers
  same "the board's own requests go round its pods and the others'" "web-0 web-1 web-2 web-3" "$(head -4 /tmp/answers | cut -d' ' -f1 | sort | xargs)"
  same "and so the second time" "$(head -4 /tmp/answers)" "$(tail -4 /tmp/answers)"
  same "they see the board" 192.0.2.11 "$(cut -d' ' -f2 /tmp/answers | sort -u | xargs)"
  board "for _ in 1 2 3 4; do /test/ip netns exec web-3 /test/probe http 10.96.122.86 80; done" > /tmp/answers
  same "a pod's requests go round too, to itself as well" "web-0 web-1 web-2 web-3" "$(cut -d' ' -f1 /tmp/answers | sort | xargs)"
  ask node-2 10.96.122.86 80 4 > /tmp/answers
  same "another node's requests reach the board's pods" "web-0 web-1 web-2 web-3" "$(cut -d' ' -f1 /tmp/answers | sort | xargs)"
  objects /job/cluster/service-gone
  within 10 "a Service that goes is gone" is_table service-gone
  objects /job/cluster/recorded
  within 10 "and comes again" is_table recorded
  echo "  peak  the daemon: $(peak kinglet) KiB"
  board "cat /run/messages" > /results/messages
}

# tier: long
part_cron() {
  start_at_boot crond > /dev/null
  board "kill -HUP 1; sleep 1; killall kinglet"
  within 10 "crond runs, and no kinglet" board "pidof crond && ! pidof kinglet"
  objects /job/cluster/endpoint-moved
  began=$(date +%s)
  within 125 "by cron a change arrives within two minutes" is_table endpoint-moved
  echo "  time  it took $(($(date +%s) - began)) s"
  objects /job/cluster/recorded
  within 125 "and so does the next" is_table recorded
  board "grep kinglet /run/messages" > /results/messages.cron
}

# tier: quick
part_away() {
  start_at_boot daemon > /dev/null
  # A daemon writes its first snapshot ten seconds after its start, and later changes after minutes.
  board "rm -f /var/lib/kinglet/snapshot; kill -HUP 1; sleep 1; killall kinglet" > /dev/null
  within 40 "there is a snapshot" board "ls -l /var/lib/kinglet/snapshot"
  kill "${api:?}"; wait "$api" 2>/dev/null; rm /tmp/api
  restart_board ""; booted "the API server is gone, and the board restarts"
  print_times "reboot without the API"
  within 10 "IPVS has exactly the Services of before" is_table recorded
  board kinglet status > /results/status
  same "status reports that it is not right" 1 $?
  check "and why" grep "IN USE" /results/status
  api_up /job/cluster/recorded
  within 60 "the API is back, and so is the node" board kinglet status
}

# held: IPVS has at least the 50 Services of the cluster of ten nodes.
services_present() { [ "$(table | grep -vc -e '->')" -ge 50 ]; }
# tier: quick
part_memory() {
  start_at_boot daemon > /dev/null
  board "rm -rf /var/lib/kinglet; echo 'ip addr add 172.16.0.11/12 dev eth0' >> /etc/init.d/rcS" > /dev/null
  rm -f "${OBJECTS:?}"/*.json; objects /job/cluster/ten
  restart_board ""; booted "10 nodes, 50 Services, 500 endpoints, and the board restarts"
  within 60 "they are there" services_present
  within 60 "status reports that the node is right" board kinglet status
  daemon=$(peak kinglet)
  start_at_boot nothing > /dev/null
  board "kill -HUP 1; sleep 1; killall kinglet; sleep 1
    /test/probe rss kinglet sync > /dev/null 2> /run/rss; echo \$?; sed -n 's/^rss //p' /run/rss" > /tmp/sync
  board cat /run/rss > /results/sync.err
  same "a sync exits 0 and prints nothing" 0 "$(sed -n 1p /tmp/sync; grep -v ^rss /results/sync.err)"
  sync=$(sed -n 2p /tmp/sync)
  echo "  peak  10 nodes, 50 Services, 500 endpoints: daemon $daemon KiB, sync $sync KiB"
  check "the daemon takes $MOST KiB or less" test "$daemon" -le "$MOST"
  check "sync takes $MOST KiB or less" test "$sync" -le "$MOST"
  board "sed -i '/172.16.0.11/d' /etc/init.d/rcS; rm -rf /var/lib/kinglet" > /dev/null
  rm -f "${OBJECTS:?}"/*.json; objects /job/cluster/recorded
  start_at_boot daemon > /dev/null
}

echo "the board may start"
booted "the board is up"
board "grep kinglet: /etc/inittab > /dev/null; tail -n 1 /etc/inittab > /test/inittab.kinglet; uname -a"
for part; do echo " $part"; "part_$part"; done
board "echo '@@off' > /dev/console; (sleep 1; poweroff -f) > /dev/null 2>&1 &" > /dev/null
finish
