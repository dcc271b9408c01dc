# shellcheck shell=sh
# shellcheck source=SCRIPTDIR/../lab/vm/lab.sh
# guest.sh SIZE...: measures `kinglet sync` and the daemon at these sizes, beside ipvsadm and the kernel alone, and requests with and
# without IPVS. Runs in the guest. Prints rows for tests/bench/run: SIZE MEASURE VALUE UNIT. In virtual time each instruction takes
# 1 ns, in the kernel too, so the measured times repeat exactly, and idle time costs no real time.
. /job/lab.sh

lab_up
ip -n node-1 addr add 172.16.0.11/12 dev eth0
ip addr add 172.16.0.1/12 dev lan
rm -f /results/rows

row() { echo "$*" | tee -a /results/rows; }
fail() { echo "bench: $*" >&2; exit 1; }
divide() { awk -v n="$1" -v by="$2" 'BEGIN { printf "%.6g\n", n / by }'; }
value() { sed -n "s/^$1 //p" "$2"; }

# measure_pass SIZE MEASURE [FLAG...]: runs one sync and prints its time, instructions, peak memory, number of steps, and the time until
# its first route. The sync may fail only for `from-snapshot`, which has no API server.
measure_pass() {
  size=$1 what=$2; shift 2
  [ $# -gt 0 ] || set -- --snapshot=
  on node-1 /job/meter run /job/kinglet sync --master $API --hostname-override node-1 --run-firewall=false "$@" \
    > /tmp/steps 2> /tmp/err || [ "$what" = from-snapshot ] || fail "$(cat /tmp/err)"
  row "$size" "$what" "$(divide "$(value took /tmp/err)" 1e6)" ms
  row "$size" "$what-instructions" "$(value cpu /tmp/err)" instructions
  row "$size" "$what-peak" "$(value peak /tmp/err)" KiB
  row "$size" "$what-steps" "$(wc -l < /tmp/steps)" steps
  [ ! -s /tmp/steps ] || row "$size" "$what-first" "$(divide "$(value first /tmp/err)" 1e6)" ms
}

# Removes everything that kinglet made. For two minutes (IP_VS_DEST_TRASH_PERIOD) the kernel keeps removed real servers, and searches all of
# them for each real server that is added; hence the sleep.
clear_node() {
  in_ns node-1 ipvsadm -C
  sleep 240
  in_ns node-1 nft delete table inet kinglet 2>/dev/null
  ip -n node-1 link del kube-dummy-if 2>/dev/null
  in_ns node-1 ip route flush proto 17
}

# measure_fill SIZE: measures a sync from an empty node, beside `ipvsadm --restore` of the same services, and the kernel alone with the same
# messages.
measure_fill() {
  in_ns node-1 ipvsadm -Sn > /tmp/saved
  row "$1" ipvsadm-entries "$(wc -l < /tmp/saved)" lines
  for _ in 1 2 3; do
    clear_node
    in_ns node-1 /job/meter run ipvsadm -R < /tmp/saved 2> /tmp/err
    row "$1" ipvsadm-restore "$(divide "$(value took /tmp/err)" 1e6)" ms
    row "$1" ipvsadm-restore-instructions "$(value cpu /tmp/err)" instructions
    clear_node
    measure_pass "$1" fill
  done
  # The messages name the link by its index, so the link exists with the same index before both runs.
  clear_node; ip -n node-1 link add kube-dummy-if index 999 type dummy
  on node-1 strace -f -o /tmp/trace -e trace=socket,sendto -e write=all /job/kinglet sync --master $API --hostname-override node-1 \
    --run-firewall=false --snapshot= > /dev/null
  clear_node; ip -n node-1 link add kube-dummy-if index 999 type dummy
  for protocol in ROUTE NETFILTER GENERIC; do in_ns node-1 /job/meter replay NETLINK_$protocol /tmp/trace; done > /tmp/replay
  rm /tmp/trace
  cat /tmp/replay
  [ "$(in_ns node-1 ipvsadm -Sn | sort | md5sum)" = "$(sort /tmp/saved | md5sum)" ] || fail "the replayed messages gave another IPVS table"
  row "$1" fill-kernel "$(awk '{ n += $2 } END { print n / 1e6 }' /tmp/replay)" ms
  row "$1" fill-netlink "$(awk '{ n += $3 } END { print n }' /tmp/replay)" bytes
}

# measure_requests SIZE: measures sequential requests to the first Service and directly to one of its endpoints. node-3 answers for all
# endpoints, so the endpoints on the lab's nodes are removed from the Service. The endpoint for the direct requests is removed from it too,
# because IPVS would treat a client port that is in use towards both as one connection.
measure_requests() {
  vip=$(in_ns node-1 ipvsadm -Sn | sed -n 's/^-A -t \(10\.96[0-9.]*\):\([0-9]*\) .*/\1 \2/p' | head -1)
  in_ns node-1 ipvsadm -Sn | sed -n "s/^-a -t ${vip% *}:${vip#* } -r \([0-9.]*\):\([0-9]*\) .*/\1 \2/p" > /tmp/reals
  real=$(grep -v '^10\.244\.[012]\.' /tmp/reals | head -1)
  ip netns exec node-3 /job/probe serve bench "${real#* }" & server=$!  # not by in_ns, so that $! is the probe
  while read -r addr port; do
    case "$addr $port" in 10.244.[012].* | "$real") in_ns node-1 ipvsadm -d -t "${vip% *}:${vip#* }" -r "$addr:$port" ;; esac
    gateway=$(ip -n node-1 route get "$addr" | sed -n 's/.* via \([0-9.]*\) .*/\1/p')
    for here in "$addr" "$gateway"; do ip -n node-3 addr replace "$here/32" dev eth0; done
  done < /tmp/reals
  ip -n node-3 route replace 172.16.0.0/12 dev eth0
  echo 262144 > /proc/sys/net/netfilter/nf_conntrack_max  # the default of a small machine is less than the flows of a few seconds
  sleep 1
  for _ in 1 2 3; do
    for target in vip real; do
      [ $target = vip ] && to=$vip || to=$real
      # shellcheck disable=SC2086
      in_ns node-1 /job/probe many $to 2 > /tmp/many || fail "a request to the $target of $vip ($real) failed"
      row "$1" $target-requests "$(cut -d' ' -f1 /tmp/many)" /s
      row "$1" $target-latency "$(cut -d' ' -f2 /tmp/many)" us
    done
  done
  kill $server; wait $server
}

status() { busybox wget -q -O - http://192.0.2.11:9100/metrics 2> /dev/null | sed -n "s/^$1 //p"; }
cpu() { /job/meter cpu "$daemon"; }
switches() { cat /proc/"$daemon"/task/*/status | awk '/^voluntary/ { n += $2 } END { print n }'; }

# start_daemon [FLAG...]: starts the daemon, and waits until its first pass is complete and its snapshot is written.
start_daemon() {
  rm -f /run/lab/node-1/var/lib/kinglet/*  # removes the snapshot of the previous size
  ip netns exec node-1 unshare -m /bin/sh /run/lab/on node-1 /job/kinglet run --master $API --hostname-override node-1 \
    --run-firewall=false --metrics-port 9100 "$@" > /results/daemon 2>&1 & daemon=$!
  until [ "$(status 'kinglet_items_wanted{kind="real"}')" -gt 0 ] 2> /dev/null; do sleep 1; done
  sleep 30
}
stop_daemon() { kill "$daemon"; wait "$daemon"; }
measure_wakeups() { before=$(switches); sleep 60; row "$1" "$2" "$(divide $(($(switches) - before)) 60)" /s; }

# measure_calls SIZE MEASURE N COMMAND...: prints the system calls of the daemon while the command runs, the bytes of netlink in both
# directions, and the bytes from the API server with HTTP heads; each divided by N.
measure_calls() {
  size=$1 what=$2 by=$3; shift 3
  rm -f /tmp/strace
  strace -f -e raw=all -p "$daemon" -o /tmp/calls 2> /tmp/strace & strace=$!
  until grep -q attached /tmp/strace 2> /dev/null; do sleep 0.1; done
  "$@"
  kill $strace; wait $strace
  row "$size" "$what-calls" "$(divide "$(grep -vc 'resumed>\|+++\|---' /tmp/calls)" "$by")" calls
  # The tenth column of /proc/net/netlink has the inodes of netlink sockets. Any other descriptor that receives is TCP.
  for file in /proc/"$daemon"/fd/*; do echo "${file##*/} $(readlink "$file")"; done > /tmp/files
  awk 'FNR == 1 { part++ }
    part == 1 { inode[$10] }
    part == 2 && /socket:/ { gsub(/socket:\[|\]/, "", $2); if ($2 in inode) netlink[sprintf("(0x%x", $1)] }
    part == 3 && match($0, /(send|recv)[a-z]*\(0x[0-9a-f]+/) {
      split(substr($0, RSTART, RLENGTH), call, "(")
      of[$1] = "(" call[2] in netlink ? "netlink" : call[1] == "recvfrom" ? "api" : ""
    }
    part == 3 && /(send|recv)[a-z]*(\(| resumed)/ && / = 0x/ && of[$1] { print of[$1], $NF; of[$1] = "" }
  ' "/proc/$daemon/net/netlink" /tmp/files /tmp/calls | while read -r of bytes; do echo "$of $((bytes))"; done > /tmp/bytes
  for of in netlink api; do
    row "$size" "$what-$of" "$(divide "$(awk -v of=$of '$1 == of { n += $2 } END { printf "%d", n }' /tmp/bytes)" "$by")" bytes
  done
}

# send_request SIZE REQUEST: sends the request to the API server, and waits two seconds for its effect.
send_request() { busybox nc 192.0.2.254 8080 < "/job/cluster/$1/$2" > /tmp/answer; sleep 2; grep -q '^HTTP/1.1 200' /tmp/answer || fail "$2: $(cat /tmp/answer)"; }

# measure_event SIZE REQUEST: prints the instructions and the milliseconds that the daemon takes for the request. Fails unless it takes one
# pass.
measure_event() {
  passes=$(status kinglet_passes_total) before=$(cpu)
  send_request "$1" "$2"
  set -- "$1" "$2" $(($(cpu) - before))
  [ "$(status kinglet_passes_total)" = $((passes + 1)) ] || fail "$2 was not one pass: $(($(status kinglet_passes_total) - passes))"
  echo "$3 $(divide "$(status kinglet_last_change_seconds)" 1e-3)"
}

# measure_change SIZE MEASURE REQUEST UNDO: measures the request as an event five times; UNDO reverts it after each.
measure_change() {
  send_request "$1" "$4"
  for _ in 1 2 3 4 5; do
    measure_event "$1" "$3" > /tmp/passed
    row "$1" "$2-instructions" "$(cut -d' ' -f1 /tmp/passed)" instructions
    row "$1" "$2" "$(cut -d' ' -f2 /tmp/passed)" ms
    measure_event "$1" "$4" > /tmp/passed
  done
  measure_calls "$1" "$2" 1 send_request "$1" "$3"
}

# measure_idle SIZE MEASURE TIMES SECONDS: measures an idle daemon for these seconds, in which it does its periodic work so many times; prints
# the cost of one time.
measure_idle() {
  before=$(cpu)
  sleep "$4"
  row "$1" "$2-instructions" "$(divide $(($(cpu) - before)) "$3")" instructions
  measure_calls "$1" "$2" "$3" sleep "$4"
}

# measure_daemon SIZE: measures the daemon: its memory, its cost when idle, and its cost for each kind of change.
measure_daemon() {
  start_daemon
  row "$1" daemon-rss "$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$daemon/status")" KiB
  row "$1" daemon-peak "$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$daemon/status")" KiB
  measure_wakeups "$1" daemon-wakes-mesh  # no node of this mesh answers
  stop_daemon
  start_daemon --routes=nodes --audit-period=240h
  measure_wakeups "$1" daemon-wakes
  measure_change "$1" event change-1 change-2
  measure_change "$1" added service-there service-gone
  measure_change "$1" gone node-gone node-there
  send_request "$1" node-there
  # The same change by ipvsadm: adds a real server and removes it.
  set -- "$1" "$(in_ns node-1 ipvsadm -Sn | sed -n 's/^-A -t \([^ ]*\) .*/\1/p' | head -1)"
  for _ in 1 2 3 4 5; do
    in_ns node-1 /job/meter run ipvsadm -a -t "$2" -r 10.255.255.9:8080 -m 2> /tmp/err
    in_ns node-1 /job/meter run ipvsadm -d -t "$2" -r 10.255.255.9:8080 2>> /tmp/err
    row "$1" ipvsadm-change "$(value took /tmp/err | awk '{ n += $1 } END { print n / 1e6 }')" ms
  done
  stop_daemon
  start_daemon --routes=nodes
  measure_idle "$1" audit 2 120
  row "$1" audit-pass "$(divide "$(status kinglet_last_pass_seconds)" 1e-3)" ms
  stop_daemon
  start_daemon --routes=nodes --audit-period=240h --poll-interval=10s
  measure_idle "$1" poll 30 300
  stop_daemon
}

for size; do
  api_up /job/cluster/"$size"
  measure_pass "$size" first
  lines=$(wc -l < /results/apiserver.log)
  measure_pass "$size" again
  row "$size" again-bytes "$(awk -v after="$lines" 'NR > after { n += $4 } END { print n }' /results/apiserver.log)" bytes
  on node-1 strace -f -c -S calls -o /tmp/calls /job/kinglet sync --master $API --hostname-override node-1 --run-firewall=false --snapshot=
  row "$size" again-calls "$(awk '$NF == "total" { print $4 }' /tmp/calls)" calls
  measure_fill "$size"
  measure_requests "$size"
  clear_node
  measure_pass "$size" written --snapshot=/tmp/snapshot
  clear_node
  kill "$api"; wait "$api"; rm /tmp/api
  measure_pass "$size" from-snapshot --snapshot=/tmp/snapshot
  rm /tmp/snapshot
  clear_node
  api_up /job/cluster/"$size"
  measure_daemon "$size"
  clear_node
  kill "$api" || fail "the API server exited"; wait "$api"; rm /tmp/api
done
