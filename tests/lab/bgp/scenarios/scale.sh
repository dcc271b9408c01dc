#!/usr/bin/env bash
# 100 sessions of 100 prefixes, and one of 10,000, into the kernel: kinglet beside BIRD.
# tier: long
# build: release
#
#   node-1: kinglet, then BIRD      feeders: speaker.py, AS 65001, one session from each of 192.0.2.101 .. .200
#
# shellcheck source=SCRIPTDIR/../network.sh
. "${0%/*}/../network.sh"

lab_up
node_up 1
host_up feeders 201
for n in $(seq 101 200); do ip -n feeders addr add "192.0.2.$n/24" dev eth0; done
api_up
ips=$(seq -s, -f 192.0.2.%g 101 200)
asns=$(yes 65001 | head -100 | paste -sd,)

routes() { ip -n node-1 route show proto $PROTO | wc -l; }
# Prints the number of prefixes in the kernel's table at once; to list them takes as long as to add some.
prefixes() { ip netns exec node-1 sed -n '/Prefixes/ { s/[^0-9]*//p; q }' /proc/net/fib_triestat; }
ticks() { awk '{ print $14 + $15 }' "/proc/$pid/stat"; }
# measured SPEAKER SESSIONS PREFIXES: the time from the first connection to the last route, and to the removal of the last one.
measured() {
  local SPEAKER=$1 PROTO=17 start end gone pid feed begun=0 empty
  [ "$1" = kinglet ] || PROTO=bird
  speaker node-1 --routes=bgp --peer-router-ips="$ips" --peer-router-asns="$asns"
  sleep 4
  pid=$(cat "$LAB"/node-1/*pid)
  empty=$(prefixes) begun=$(ticks) start=$(date +%s%N)
  ip netns exec feeders python3 "$here/speaker.py" feed 192.0.2.11 65001 101 "$2" "$3" 2>> "$LAB/feeders/log" & feed=$!
  until [ $(($(prefixes) - empty)) -ge $(($2 * $3)) ]; do
    sleep 0.01
    [ $((($(date +%s%N) - start) / 1000000)) -lt 120000 ] || { fail "$1: $2 x $3 converge within 120 s"; break; }
  done
  end=$(date +%s%N)
  took=$(((end - start) / 1000000)) cpu=$((($(ticks) - begun) * 10)) mem=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status")
  [ "$(routes)" = $(($2 * $3)) ] || fail "$1: $2 x $3: $(routes) routes"
  kill $feed; wait $feed 2> /dev/null
  end=$(date +%s%N)
  until [ "$(prefixes)" = "$empty" ]; do sleep 0.01; [ $((($(date +%s%N) - end) / 1000000)) -lt 120000 ] || break; done
  gone=$((($(date +%s%N) - end) / 1000000))
  printf '  %-8s %3d x %5d: converged in %6d ms, %6d ms of CPU, %6d KB at most; gone in %6d ms\n' \
    "$1" "$2" "$3" "$took" "$cpu" "$mem" "$gone"
  ended node-1; rm -f "$LAB"/node-1/bird.ctl
  ip -n node-1 route flush proto $PROTO
}
# compared SESSIONS PREFIXES: measures both three times, in turn, and compares the medians.
compared() {
  local which
  : > "$LAB/figures"
  for _ in 1 2 3; do
    for which in "$SPEAKER" bird; do measured "$which" "$1" "$2"; echo "$which.$took $mem" >> "$LAB/figures"; done
  done
  local own theirs own_mem their_mem
  own=$(median "$SPEAKER" 1) theirs=$(median bird 1) own_mem=$(median "$SPEAKER" 2) their_mem=$(median bird 2)
  check "$1 x $2: $own ms, BIRD $theirs ms: no slower (a tenth is noise)" test "$own" -le $((theirs * 11 / 10 + 10))
  check "$1 x $2: $own_mem KB, BIRD $their_mem KB: no more memory" test "$own_mem" -le "$their_mem"
}
median() { sed -n "s/^$1\.//p" "$LAB/figures" | cut -d' ' -f"$2" | sort -n | sed -n 2p; }

compared 100 100
compared 1 10000
finish
