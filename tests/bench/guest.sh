# shellcheck shell=sh
# shellcheck source=SCRIPTDIR/../lab/vm/lab.sh
# guest.sh SIZE...: measures the main job and the daemon at some sizes, beside ipvsadm and the kernel alone, and requests with and
# without IPVS; runs in the guest. Prints rows for tests/bench/run: SIZE WHAT VALUE UNIT. In virtual time an instruction takes 1 ns,
# the kernel's included, so times repeat exactly and waiting is free.
. /job/lab.sh

lab_up
ip -n node-1 addr add 172.16.0.11/12 dev eth0
ip addr add 172.16.0.1/12 dev lan
rm -f /results/rows

row() { echo "$*" | tee -a /results/rows; }
fail() { echo "bench: $*" >&2; exit 1; }
per() { awk -v n="$1" -v by="$2" 'BEGIN { printf "%.6g\n", n / by }'; }
of() { sed -n "s/^$1 //p" "$2"; }

# passed SIZE WHAT [FLAG...]: one pass, which may have nobody to ask: until its first route and its end, its peak, its steps
passed() {
  size=$1 what=$2; shift 2
  [ $# -gt 0 ] || set -- --snapshot=
  on node-1 /job/meter run /job/kinglet sync --master $API --hostname-override node-1 --run-firewall=false "$@" \
    > /tmp/steps 2> /tmp/err || [ "$what" = from-snapshot ] || fail "$(cat /tmp/err)"
  row "$size" "$what" "$(per "$(of took /tmp/err)" 1e6)" ms
  row "$size" "$what-instructions" "$(of cpu /tmp/err)" instructions
  row "$size" "$what-peak" "$(of peak /tmp/err)" KiB
  row "$size" "$what-steps" "$(wc -l < /tmp/steps)" steps
  [ ! -s /tmp/steps ] || row "$size" "$what-first" "$(per "$(of first /tmp/err)" 1e6)" ms
}

# Nothing is there any more. For two minutes (IP_VS_DEST_TRASH_PERIOD) the kernel keeps the real servers that went, and looks through all of
# them for each that comes.
empty() {
  in_ns node-1 ipvsadm -C
  sleep 240
  in_ns node-1 nft delete table inet kinglet 2>/dev/null
  ip -n node-1 link del kube-dummy-if 2>/dev/null
  in_ns node-1 ip route flush proto 17
}

# filled SIZE: from nothing, beside `ipvsadm --restore` of the same services, and the kernel with the same messages
filled() {
  in_ns node-1 ipvsadm -Sn > /tmp/saved
  row "$1" ipvsadm-entries "$(wc -l < /tmp/saved)" lines
  for _ in 1 2 3; do
    empty
    in_ns node-1 /job/meter run ipvsadm -R < /tmp/saved 2> /tmp/err
    row "$1" ipvsadm-restore "$(per "$(of took /tmp/err)" 1e6)" ms
    row "$1" ipvsadm-restore-instructions "$(of cpu /tmp/err)" instructions
    empty
    passed "$1" fill
  done
  # That the same messages name the same link, it is there before with the same number.
  empty; ip -n node-1 link add kube-dummy-if index 999 type dummy
  on node-1 strace -f -o /tmp/trace -e trace=socket,sendto -e write=all /job/kinglet sync --master $API --hostname-override node-1 \
    --run-firewall=false --snapshot= > /dev/null
  empty; ip -n node-1 link add kube-dummy-if index 999 type dummy
  for protocol in ROUTE NETFILTER GENERIC; do in_ns node-1 /job/meter replay NETLINK_$protocol /tmp/trace; done > /tmp/replay
  rm /tmp/trace
  cat /tmp/replay
  [ "$(in_ns node-1 ipvsadm -Sn | sort | md5sum)" = "$(sort /tmp/saved | md5sum)" ] || fail "what was sent again is not what was there"
  row "$1" fill-kernel "$(awk '{ n += $2 } END { print n / 1e6 }' /tmp/replay)" ms
  row "$1" fill-netlink "$(awk '{ n += $3 } END { print n }' /tmp/replay)" bytes
}

# asked SIZE: requests one after the other, to the first Service and to what was one of its endpoints, all of which node-3 answers; but for
# those of the lab's own nodes. The endpoint that is asked without IPVS is none of the Service's any more: a client's port that was in use
# towards both would be one and the same connection to IPVS.
asked() {
  vip=$(in_ns node-1 ipvsadm -Sn | sed -n 's/^-A -t \(10\.96[0-9.]*\):\([0-9]*\) .*/\1 \2/p' | head -1)
  in_ns node-1 ipvsadm -Sn | sed -n "s/^-a -t ${vip% *}:${vip#* } -r \([0-9.]*\):\([0-9]*\) .*/\1 \2/p" > /tmp/reals
  real=$(grep -v '^10\.244\.[012]\.' /tmp/reals | head -1)
  ip netns exec node-3 /job/probe serve bench "${real#* }" & server=$!  # a function would be a process of its own
  while read -r addr port; do
    case "$addr $port" in 10.244.[012].* | "$real") in_ns node-1 ipvsadm -d -t "${vip% *}:${vip#* }" -r "$addr:$port" ;; esac
    gateway=$(ip -n node-1 route get "$addr" | sed -n 's/.* via \([0-9.]*\) .*/\1/p')
    for here in "$addr" "$gateway"; do ip -n node-3 addr replace "$here/32" dev eth0; done
  done < /tmp/reals
  ip -n node-3 route replace 172.16.0.0/12 dev eth0
  echo 262144 > /proc/sys/net/netfilter/nf_conntrack_max  # the requests of some seconds are more than a small machine's table holds
  sleep 1
  for _ in 1 2 3; do
    for way in vip real; do
      [ $way = vip ] && to=$vip || to=$real
      # shellcheck disable=SC2086
      in_ns node-1 /job/probe many $to 2 > /tmp/many || fail "a request to the $way of $vip ($real) failed"
      row "$1" $way-requests "$(cut -d' ' -f1 /tmp/many)" /s
      row "$1" $way-latency "$(cut -d' ' -f2 /tmp/many)" us
    done
  done
  kill $server; wait $server
}

status() { busybox wget -q -O - http://192.0.2.11:9100/metrics 2> /dev/null | sed -n "s/^$1 //p"; }
cpu() { /job/meter cpu "$daemon"; }
switches() { cat /proc/"$daemon"/task/*/status | awk '/^voluntary/ { n += $2 } END { print n }'; }

# started [FLAG...]: the daemon, until all is done and its snapshot is written
started() {
  rm -f /run/lab/node-1/var/lib/kinglet/*  # a snapshot of another size is as old as this API server
  ip netns exec node-1 unshare -m /bin/sh /run/lab/on node-1 /job/kinglet run --master $API --hostname-override node-1 \
    --run-firewall=false --metrics-port 9100 "$@" > /results/daemon 2>&1 & daemon=$!
  until [ "$(status 'kinglet_items_wanted{kind="real"}')" -gt 0 ] 2> /dev/null; do sleep 1; done
  sleep 30
}
ended() { kill "$daemon"; wait "$daemon"; }
wakes() { before=$(switches); sleep 60; row "$1" "$2" "$(per $(($(switches) - before)) 60)" /s; }

# traced SIZE WHAT BY COMMAND...: what the daemon calls while it runs, by so many, its bytes of netlink in both directions, and those that
# came from the API server, heads and all
traced() {
  size=$1 what=$2 by=$3; shift 3
  rm -f /tmp/strace
  strace -f -e raw=all -p "$daemon" -o /tmp/calls 2> /tmp/strace & strace=$!
  until grep -q attached /tmp/strace 2> /dev/null; do sleep 0.1; done
  "$@"
  kill $strace; wait $strace
  row "$size" "$what-calls" "$(per "$(grep -vc 'resumed>\|+++\|---' /tmp/calls)" "$by")" calls
  # Which of its files are netlink sockets: /proc/net/netlink has their inodes in its tenth column. What else receives is TCP.
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
    row "$size" "$what-$of" "$(per "$(awk -v of=$of '$1 == of { n += $2 } END { printf "%d", n }' /tmp/bytes)" "$by")" bytes
  done
}

# sent SIZE REQUEST: to the API server, and two seconds for what it does
sent() { busybox nc 192.0.2.254 8080 < "/job/cluster/$1/$2" > /tmp/answer; sleep 2; grep -q '^HTTP/1.1 200' /tmp/answer || fail "$2: $(cat /tmp/answer)"; }

# passing SIZE REQUEST: what the request takes the daemon: one pass, in instructions and in milliseconds
passing() {
  passes=$(status kinglet_passes_total) before=$(cpu)
  sent "$1" "$2"
  set -- "$1" "$2" $(($(cpu) - before))
  [ "$(status kinglet_passes_total)" = $((passes + 1)) ] || fail "$2 was not one pass: $(($(status kinglet_passes_total) - passes))"
  echo "$3 $(per "$(status kinglet_last_change_seconds)" 1e-3)"
}

# changed SIZE WHAT REQUEST BACK: the request as an event, and another that makes it undone
changed() {
  sent "$1" "$4"
  for _ in 1 2 3 4 5; do
    passing "$1" "$3" > /tmp/passed
    row "$1" "$2-instructions" "$(cut -d' ' -f1 /tmp/passed)" instructions
    row "$1" "$2" "$(cut -d' ' -f2 /tmp/passed)" ms
    passing "$1" "$4" > /tmp/passed
  done
  traced "$1" "$2" 1 sent "$1" "$3"
}

# rested SIZE WHAT TIMES SECONDS: what one of so many turns costs a daemon to which nothing happens
rested() {
  before=$(cpu)
  sleep "$4"
  row "$1" "$2-instructions" "$(per $(($(cpu) - before)) "$3")" instructions
  traced "$1" "$2" "$3" sleep "$4"
}

# followed SIZE: the daemon: its memory, what it costs when nothing happens, and what changes
followed() {
  started
  row "$1" daemon-rss "$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$daemon/status")" KiB
  row "$1" daemon-peak "$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$daemon/status")" KiB
  wakes "$1" daemon-wakes-mesh  # none of whose nodes are there
  ended
  started --routes=nodes --audit-period=240h
  wakes "$1" daemon-wakes
  changed "$1" event change-1 change-2
  changed "$1" added service-there service-gone
  changed "$1" gone node-gone node-there
  sent "$1" node-there
  # What the same change takes by ipvsadm: one real server more, and one less.
  set -- "$1" "$(in_ns node-1 ipvsadm -Sn | sed -n 's/^-A -t \([^ ]*\) .*/\1/p' | head -1)"
  for _ in 1 2 3 4 5; do
    in_ns node-1 /job/meter run ipvsadm -a -t "$2" -r 10.255.255.9:8080 -m 2> /tmp/err
    in_ns node-1 /job/meter run ipvsadm -d -t "$2" -r 10.255.255.9:8080 2>> /tmp/err
    row "$1" ipvsadm-change "$(of took /tmp/err | awk '{ n += $1 } END { print n / 1e6 }')" ms
  done
  ended
  started --routes=nodes
  rested "$1" audit 2 120
  row "$1" audit-pass "$(per "$(status kinglet_last_pass_seconds)" 1e-3)" ms
  ended
  started --routes=nodes --audit-period=240h --poll-interval=10s
  rested "$1" poll 30 300
  ended
}

for size; do
  api_up /job/cluster/"$size"
  passed "$size" first
  lines=$(wc -l < /results/apiserver.log)
  passed "$size" again
  row "$size" again-bytes "$(awk -v after="$lines" 'NR > after { n += $4 } END { print n }' /results/apiserver.log)" bytes
  on node-1 strace -f -c -S calls -o /tmp/calls /job/kinglet sync --master $API --hostname-override node-1 --run-firewall=false --snapshot=
  row "$size" again-calls "$(awk '$NF == "total" { print $4 }' /tmp/calls)" calls
  filled "$size"
  asked "$size"
  empty
  passed "$size" written --snapshot=/tmp/snapshot
  empty
  kill "$api"; wait "$api"; rm /tmp/api
  passed "$size" from-snapshot --snapshot=/tmp/snapshot
  rm /tmp/snapshot
  empty
  api_up /job/cluster/"$size"
  followed "$size"
  empty
  kill "$api" || fail "the API server is gone"; wait "$api"; rm /tmp/api
done
