# shellcheck shell=sh
# shellcheck source=SCRIPTDIR/lab.sh
# bench.sh SIZE...: the main job at some sizes, beside ipvsadm, in the guest. One row a line, for tests/bench:
#   SIZE WHAT VALUE UNIT
. /job/lab.sh

lab_up
ip -n node-1 addr add 172.16.0.11/12 dev eth0
rm -f /results/rows

row() { echo "$*" | tee -a /results/rows; }
now() { read -r up _ < /proc/uptime; echo "$up"; }
since() { echo "$1 $(now)" | awk '{ printf "%.2f", $2 - $1 }'; }

# measured SIZE WHAT: one pass, its time, its peak memory and its number of steps
measured() {
  t=$(now)
  on node-1 /job/probe rss /job/kinglet sync --master $API --hostname-override node-1 --run-firewall=false --snapshot= \
    > /tmp/steps 2> /tmp/err || { cat /tmp/err; exit 1; }
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

for size; do
  api_up /job/cluster/"$size"
  measured "$size" first
  measured "$size" again
  measured "$size" again
  in_ns node-1 ipvsadm -Sn > /tmp/saved
  row "$size" ipvsadm-entries "$(wc -l < /tmp/saved)" lines
  for _ in 1 2 3; do
    empty
    measured "$size" fill
    empty
    t=$(now)
    in_ns node-1 ipvsadm -R < /tmp/saved
    row "$size" ipvsadm-restore "$(since "$t")" s
  done
  empty
  kill "$api"; wait "$api"; rm /tmp/api
done
