#!/usr/bin/env bash
# pure.sh KINGLET APISERVER CLUSTERS ROWS: what no kernel has a part in: instructions (callgrind, the same each time) and time to read
# all lists from the API, to work out what a node should hold, and the bytes that the API sends for it.
set -euo pipefail
kinglet=$1 apiserver=$2 clusters=$3 rows=$4 work=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$work"' EXIT

ip link set lo up
ip link add eth0 type veth peer name far
ip link set eth0 up; ip link set far up
ip addr add 192.0.2.11/24 dev eth0
ip addr add 172.16.0.11/12 dev eth0
export PATH=$PATH:/usr/sbin
row() { echo "$size $1 $2 $3" | tee -a "$rows"; }
# does STDIN ARGUMENT...: kinglet, which may have something to do (2)
does() { local from=$1; shift; "${under[@]}" "$kinglet" "$@" < "$from" > "$work/out" 2> "$work/err" || [ $? = 2 ] || { cat "$work/err" >&2; exit 1; }; }
# counted WHAT ...: as does, by its instructions and by its time
counted() {
  local what=$1 t; shift
  local under=(valgrind --tool=callgrind --callgrind-out-file=/dev/null)
  does "$@"
  row "$what" "$(sed -n 's/.*Collected : //p' "$work/err")" instructions
  under=()
  for _ in 1 2 3 4 5; do t=$(date +%s%N); does "$@"; row "$what-time" $((($(date +%s%N) - t) / 1000)) us; done
}
under=()
for size in small middle large; do
  [ -e "$clusters/$size" ] || continue
  : > "$work/api"
  "$apiserver" --listen 127.0.0.1:0 --objects "$clusters/$size" --log "$work/requests" > "$work/api" & server=$!
  until api=$(sed -n 's/^listening on //p' "$work/api") && [ -n "$api" ]; do sleep 0.05; done
  # This kernel has no IPVS: what is read is read all the same, and planned for another node.
  flags=(--master "http://$api" --hostname-override node-1 --snapshot= --run-dir "$work/run")
  does /dev/null plan "${flags[@]}"; does /dev/null plan "${flags[@]}"
  before=$(wc -l < "$work/requests"); does /dev/null dump "${flags[@]}"; cp "$work/out" "$work/dump"
  row api-bytes "$(awk -v after="$before" 'NR > after { n += $4 } END { print n }' "$work/requests")" bytes
  row api-plain "$(cat "$clusters/$size"/{nodes,services,endpointslices}.json | wc -c)" bytes
  counted read /dev/null plan "${flags[@]}"
  counted plan "$work/dump" plan --from - --hostname-override node-2
  kill $server; wait $server || true
done
