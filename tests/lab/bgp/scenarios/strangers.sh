#!/usr/bin/env bash
# An unknown or misbehaving peer is refused, is reported once, and does not affect the others.
# tier: long
#
#   node-1 ---- node-2          AS 64512, hold time 3 s        node-3: --routes=nodes and no peers
#     |    \
#   router  liar  stranger      192.0.2.201 AS 65001: BIRD; .202 should be of AS 65002; .222 is unknown
#
# shellcheck source=SCRIPTDIR/../network.sh
. "${0%/*}/../network.sh"

lab_up
node_up 1; node_up 2
host_up router 201; host_up liar 202; host_up stranger 222
api_up
for at in "router 201 65001" "liar 202 65099"; do
  read -r name host asn <<< "$at"
  cat > "$LAB/$name/conf" << CONF
router id 192.0.2.$host;
log stderr all;
protocol device {}
protocol static { ipv4; route 203.0.$host.0/24 blackhole; }
protocol bgp node_1 {
  local 192.0.2.$host as $asn;
  neighbor 192.0.2.11 as 64512;
  direct; connect delay time 1; connect retry time 2; error wait time 1, 2;
  ipv4 { import all; export where source = RTS_STATIC; };
}
CONF
done
bird_up router "$LAB/router/conf"
speaker node-1 --routes=bgp --bgp-holdtime=3s --peer-router-ips=192.0.2.201,192.0.2.202 --peer-router-asns=65001,65002
speaker node-2 --routes=bgp --bgp-holdtime=3s

pid=$(cat "$LAB"/node-1/*pid)
run_speaker() { in_ns "$1" python3 "$here/speaker.py" "${@:2}"; }
up() { established node-1 192.0.2.201 192.0.2.12 && routed node-1 203.0.201.0/24 192.0.2.201 && routed node-1 10.244.2.0/24 192.0.2.12; }
# losses: prints the number of lost sessions, by the router's log.
losses() { grep -c 'node_1: .*\(Error\|Received\|closed\|Hold\)' "$LAB/router/log"; }
rss() { awk '/VmRSS/ { print $2 }' "/proc/$pid/status"; }
# reported_once ADDRESS: kinglet's log has one line for each kind of error of this address, and at most three kinds.
reported_once() {
  [ "$SPEAKER" = kinglet ] || return 0
  local lines; lines=$(grep -c "$1" "$LAB/node-1/log")
  { [ "$lines" -ge 1 ] && [ "$lines" -le 3 ]; } || { echo "$lines lines of $1"; grep "$1" "$LAB/node-1/log" | tail -5; return 1; }
}
undisturbed() { # SENTENCE
  check "$1: the others' sessions and routes are as they were" up
  same "$1: no session was lost" "$lost" "$(losses)"
  check "$1: it has few sockets" test "$(find "/proc/$pid/fd" -lname 'socket:*' | wc -l)" -lt 40
  check "$1: it has not grown by 4 MB" test $(($(rss) - before)) -lt 4096
}
within 30 "the sessions with known peers are up" up
sleep 1
before=$(rss) lost=$(losses)

same "an unknown host receives no OPEN, however often it connects" 0 "$(run_speaker stranger knock 192.0.2.11 50)"
undisturbed "an unknown host connects"
check "an unknown host is reported once" reported_once 192.0.2.222

bird_up liar "$LAB/liar/conf"
sleep 8
check "a peer of another AS than agreed has no session" down node-1 192.0.2.202
check "and no route" routed node-1 203.0.202.0/24
undisturbed "a peer has the wrong AS"
check "it is reported once, not at each attempt" reported_once 192.0.2.202
[ "$SPEAKER" = bird ] || check "both numbers are in the log" file_has "$LAB/node-1/log" "65099.*65002|65002.*65099"
ended liar

# The kernel answers SYNs. Its queue may be full for a while, but the sessions that are up must not be affected.
check "half-open connections: a flood" test "$(run_speaker stranger half 192.0.2.11 8)" -gt 1000
undisturbed "half-open connections"
check "hosts that send nothing connect 200 times" test "$(run_speaker stranger idle 192.0.2.11 200 5)" -ge 0
undisturbed "connections of an unknown host that sends nothing"
run_speaker liar idle 192.0.2.11 200 5 > "$LAB/liar/idle" & sleep 4
undisturbed "connections of a peer's host that sends nothing"
wait $!

check "an OPEN each millisecond, of an unknown host" test "$(run_speaker stranger open 192.0.2.11 65001 6)" -gt 50
undisturbed "an OPEN each millisecond"
check "an OPEN each millisecond, of a peer with the wrong AS" test "$(run_speaker liar open 192.0.2.11 65099 6)" -gt 50
undisturbed "an OPEN each millisecond of a peer"
check "both are still reported once" eval 'reported_once 192.0.2.222 && reported_once 192.0.2.202'

if [ "$SPEAKER" = kinglet ]; then
  node_up 3; publish_nodes
  speaker node-3 --routes=nodes
  within 10 "--routes=nodes: node-3 has the others' routes" routed node-3 10.244.1.0/24 192.0.2.11
  sleep 2
  same "--routes=nodes and no peers: no socket of BGP" "" "$(in_ns node-3 ss -Hatnp '( sport = :179 or dport = :179 )' | grep -v SYN-RECV)"
  same "and no other that listens than health's" 1 "$(in_ns node-3 ss -Hltn | wc -l)"
  same "node-1, which has peers, listens at its own addresses" "192.0.2.11:179" "$(in_ns node-1 ss -Hltn4 'sport = :179' | awk '{ print $4 }')"
fi
finish
