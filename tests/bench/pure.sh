#!/usr/bin/env bash
# pure.sh KINGLET APISERVER CLUSTERS ROWS: what no kernel has a part in: instructions (callgrind, the same each time) and time to read
# all lists from the API, to work out what a node should hold, and the bytes that the API sends for it.
set -euo pipefail
kinglet=$1 apiserver=$2 clusters=$3 rows=$4
# shellcheck source=SCRIPTDIR/node.sh
. "${0%/*}/node.sh"

row() { echo "$size $1 $2 $3" | tee -a "$rows"; }
# counted WHAT STDIN ARGUMENT...: kinglet's instructions, and its time
counted() {
  local what=$1 from=$2 t; shift 2
  does "$from" valgrind --tool=callgrind --callgrind-out-file=/dev/null "$kinglet" "$@"
  row "$what" "$(sed -n 's/.*Collected : //p' "$work/err")" instructions
  for _ in 1 2 3 4 5; do t=$(date +%s%N); does "$from" "$kinglet" "$@"; row "$what-time" $((($(date +%s%N) - t) / 1000)) us; done
}
for size in small middle large; do
  [ -e "$clusters/$size" ] || continue
  serve "$clusters/$size"
  # This kernel has no IPVS: what is read is read all the same, and planned for another node.
  flags=(--master "http://$api" --hostname-override node-1 --snapshot= --run-dir "$work/run")
  before=$(wc -l < "$work/requests"); does /dev/null "$kinglet" dump "${flags[@]}"; cp "$work/out" "$work/dump"
  row api-bytes "$(awk -v after="$before" 'NR > after { n += $4 } END { print n }' "$work/requests")" bytes
  row api-plain "$(cat "$clusters/$size"/{nodes,services,endpointslices}.json | wc -c)" bytes
  counted read /dev/null plan "${flags[@]}"
  counted plan "$work/dump" plan --from - --hostname-override node-2
  served
done
