#!/usr/bin/env bash
# pure.sh KINGLET APISERVER CLUSTERS ROWS: measures the work that needs no kernel: the instructions (by callgrind; they repeat exactly) and
# the time to read all lists from the API and to compute the desired state of a node, and the bytes that the API sends.
set -euo pipefail
kinglet=$1 apiserver=$2 clusters=$3 rows=$4
# shellcheck source=SCRIPTDIR/node.sh
. "${0%/*}/node.sh"

row() { echo "$size $1 $2 $3" | tee -a "$rows"; }
# measure MEASURE STDIN ARGUMENT...: measures the instructions and the time of kinglet.
measure() {
  local what=$1 from=$2 t; shift 2
  run_kinglet "$from" valgrind --tool=callgrind --callgrind-out-file=/dev/null "$kinglet" "$@"
  row "$what" "$(sed -n 's/.*Collected : //p' "$work/err")" instructions
  for _ in 1 2 3 4 5; do t=$(date +%s%N); run_kinglet "$from" "$kinglet" "$@"; row "$what-time" $((($(date +%s%N) - t) / 1000)) us; done
}
for size in small middle large; do
  [ -e "$clusters/$size" ] || continue
  start_api "$clusters/$size"
  # This kernel may have no IPVS. `read` is a plan from the API all the same; `plan` is a plan from a dump, for another node.
  flags=(--master "http://$api" --hostname-override node-1 --snapshot= --run-dir "$work/run")
  before=$(wc -l < "$work/requests"); run_kinglet /dev/null "$kinglet" dump "${flags[@]}"; cp "$work/out" "$work/dump"
  row api-bytes "$(awk -v after="$before" 'NR > after { n += $4 } END { print n }' "$work/requests")" bytes
  row api-plain "$(cat "$clusters/$size"/{nodes,services,endpointslices}.json | wc -c)" bytes
  measure read /dev/null plan "${flags[@]}"
  measure plan "$work/dump" plan --from - --hostname-override node-2
  stop_api
done
