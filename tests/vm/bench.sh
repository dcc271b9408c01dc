# shellcheck shell=sh
# shellcheck source=SCRIPTDIR/lab.sh
# bench.sh SIZE...: the main job, the daemon and the way of a request at some sizes, beside ipvsadm and the way without IPVS, in the
# guest. One row a line, for tests/bench: SIZE WHAT VALUE UNIT
. /job/lab.sh

lab_up
ip -n node-1 addr add 172.16.0.11/12 dev eth0
ip addr add 172.16.0.1/12 dev lan
rm -f /results/rows

row() { echo "$*" | tee -a /results/rows; }
now() { read -r up _ < /proc/uptime; echo "$up"; }
since() { echo "$1 $(now)" | awk '{ printf "%.2f", $2 - $1 }'; }

# measured SIZE WHAT [FLAG...]: one pass, its time, its peak memory and its number of steps
measured() {
  size=$1 what=$2; shift 2
  [ $# -gt 0 ] || set -- --snapshot=
  t=$(now)
  on node-1 /job/probe rss /job/kinglet sync --master $API --hostname-override node-1 --run-firewall=false "$@" \
    > /tmp/steps 2> /tmp/err || [ "$what" = from-snapshot ] || { cat /tmp/err; exit 1; }
  set -- "$size" "$what"
  row "$1" "$2" "$(since "$t")" s
  row "$1" "$2-peak" "$(sed -n 's/^rss //p' /tmp/err)" KiB
  row "$1" "$2-steps" "$(wc -l < /tmp/steps)" steps
}

empty() {
  in_ns node-1 ipvsadm -C
  in_ns node-1 nft delete table inet kinglet 2>/dev/null
  ip -n node-1 link del kube-dummy-if 2>/dev/null
  in_ns node-1 ip route flush proto 17
}

status() { busybox wget -q -O - http://192.0.2.11:9100/metrics | sed -n "s/^$1 //p"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$daemon/stat"; }
switches() { cat /proc/"$daemon"/task/*/status | awk '/^voluntary/ { n += $2 } END { print n }'; }

# changed SIZE N: another address for an endpoint, and until the kernel has it
changed() {
  until lag=$(status kinglet_last_change_seconds); [ -n "$lag" ]; do sleep 0.1; done
  sleep 0.3  # or it waits for the pause after the last one
  busybox nc 192.0.2.254 8080 < "/job/cluster/$1/change-$2" > /tmp/answer & nc=$!
  until change=$(status kinglet_last_change_seconds); [ "${change:-$lag}" != "$lag" ]; do sleep 0.1; done
  kill $nc 2> /dev/null
}

# asked SIZE: requests one after the other, to the first Service and to one of its endpoints, all of which answer here; but for
# those of the lab's own nodes, who have nobody behind them
asked() {
  vip=$(in_ns node-1 ipvsadm -Sn | sed -n 's/^-A -t \(10\.96[0-9.]*\):\([0-9]*\) .*/\1 \2/p' | head -1)
  reals=$(in_ns node-1 ipvsadm -Sn | sed -n "s/^-a -t ${vip% *}:${vip#* } -r \([0-9.]*\):\([0-9]*\) .*/\1 \2/p")
  echo "$reals" | while read -r addr port; do
    case $addr in 10.244.[012].*)
      in_ns node-1 ipvsadm -d -t "${vip% *}:${vip#* }" -r "$addr:$port"
      continue ;;
    esac
    gateway=$(ip -n node-1 route get "$addr" | sed -n 's/.* via \([0-9.]*\) .*/\1/p')
    ip addr add "$addr/32" dev lan 2> /dev/null; ip addr add "$gateway/32" dev lan 2> /dev/null
    [ -e "/tmp/serve-$port" ] || { /job/probe serve bench "$port" & echo $! > "/tmp/serve-$port"; }
  done
  real=$(echo "$reals" | grep -v '^10\.244\.[012]\.' | head -1)
  sleep 0.5
  for _ in 1 2 3; do
    # shellcheck disable=SC2086
    in_ns node-1 /job/probe many $vip 3 > /tmp/many && row "$1" vip-requests "$(cut -d' ' -f1 /tmp/many)" /s && row "$1" vip-latency "$(cut -d' ' -f2 /tmp/many)" us
    # shellcheck disable=SC2086
    in_ns node-1 /job/probe many $real 3 > /tmp/many && row "$1" real-requests "$(cut -d' ' -f1 /tmp/many)" /s && row "$1" real-latency "$(cut -d' ' -f2 /tmp/many)" us
  done
}

# started [FLAG...]: the daemon, until it has nothing to do for five seconds
started() {
  rm -f /run/lab/node-1/var/lib/kinglet/*  # a snapshot of another size is as old as this API server
  ip netns exec node-1 unshare -m /bin/sh /run/lab/on node-1 /job/kinglet run --master $API --hostname-override node-1 \
    --run-firewall=false --metrics-port 9100 --audit-period 240h "$@" > /results/daemon 2>&1 & daemon=$!
  until [ "$(status 'kinglet_items_wanted{kind="real"}')" -gt 0 ] 2> /dev/null; do sleep 0.1; done
  spent=0 last=$(now)
  while [ "$(echo "$last $(now)" | awk '{ print ($2 - $1 < 5) }')" = 1 ]; do  # for 5 s it had nothing to do
    [ "$(ticks)" = "$spent" ] || { spent=$(ticks); last=$(now); }
    sleep 0.1
  done
}
ended() { kill "$daemon"; wait "$daemon"; }
wakes() { before=$(switches); sleep 10; row "$1" "$2" "$(echo "$before $(switches)" | awk '{ print ($2 - $1) / 10 }')" /s; }

# followed SIZE: the daemon: its memory, what it costs when nothing happens, and one endpoint that changes
followed() {
  started
  row "$1" daemon-rss "$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$daemon/status")" KiB
  row "$1" daemon-peak "$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$daemon/status")" KiB
  # What the change of one endpoint costs the kernel: its calls, and what goes to it by netlink.
  strace -f -p "$daemon" -o /tmp/calls -e trace=sendto,sendmsg,recvfrom,recvmsg,read,write,open,openat,stat 2> /tmp/strace & strace=$!
  sleep 3
  changed "$1" 1
  kill $strace; wait $strace
  row "$1" event-calls "$(grep -c '(' /tmp/calls)" calls
  row "$1" event-netlink "$(sed -n 's/.*send[a-z]*([0-9]*, .*nlmsg_len=\([0-9]*\).*/\1/p' /tmp/calls | awk '{ n += $1 } END { print n + 0 }')" bytes
  wakes "$1" daemon-wakes-mesh  # none of whose nodes are there
  for n in 2 1 2 1 2 1 2 1 2 1 2 1; do
    changed "$1" $n
    row "$1" event-pass "$(status kinglet_last_pass_seconds | awk '{ print $1 * 1000 }')" ms
    row "$1" event "$(echo "$change" | awk '{ print $1 * 1000 }')" ms
  done
  # What the same change takes by ipvsadm: one real server more, and one less.
  set -- "$1" "$(in_ns node-1 ipvsadm -Sn | sed -n 's/^-A -t \([^ ]*\) .*/\1/p' | head -1)"
  for _ in 1 2 3 4 5; do
    t=$(now)
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      in_ns node-1 ipvsadm -a -t "$2" -r 10.255.255.9:8080 -m
      in_ns node-1 ipvsadm -d -t "$2" -r 10.255.255.9:8080
    done
    row "$1" ipvsadm-change "$(echo "$t $(now)" | awk '{ print ($2 - $1) * 100 }')" ms
  done
  ended
  started --routes=nodes
  wakes "$1" daemon-wakes
  ended
}

for size; do
  api_up /job/cluster/"$size"
  measured "$size" first
  measured "$size" again
  measured "$size" again
  in_ns node-1 ipvsadm -Sn > /tmp/saved
  row "$size" ipvsadm-entries "$(wc -l < /tmp/saved)" lines
  for _ in 1 2 3; do
    empty
    t=$(now)
    in_ns node-1 ipvsadm -R < /tmp/saved
    row "$size" ipvsadm-restore "$(since "$t")" s
    empty
    measured "$size" fill
  done
  asked "$size"
  empty
  measured "$size" written --snapshot=/tmp/snapshot
  empty
  kill "$api"; wait "$api"; rm /tmp/api
  measured "$size" from-snapshot --snapshot=/tmp/snapshot
  rm /tmp/snapshot
  empty
  api_up /job/cluster/"$size"
  followed "$size"
  empty
  kill "$api"; wait "$api"; rm /tmp/api
done
