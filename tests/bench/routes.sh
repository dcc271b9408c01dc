#!/usr/bin/env bash
# routes.sh KINGLET APISERVER METER ROWS: measures routes to the pods of 300, 1,000 and 3,000 nodes, in its own namespaces: a `sync` and a
# `plan` (which reads the API and the kernel, but changes nothing), `ip -batch` of the same routes, BIRD's kernel protocol, and the kernel
# alone with the messages of the `sync`.
set -euo pipefail
kinglet=$1 apiserver=$2 meter=$3 rows=$4
# shellcheck source=SCRIPTDIR/node.sh
. "${0%/*}/node.sh"

prefixes() { sed -n '/Prefixes/ { s/[^0-9]*//p; q }' /proc/net/fib_triestat; }
now() { date +%s%N; }
row() { echo "$size $1 $(($2 / 1000)) us" | tee -a "$rows"; }
# routes_only COMMAND [WRAPPER...]: runs a command of kinglet, by a wrapper if given, with all functions but routes disabled.
routes_only() {
  local command=$1; shift
  run_kinglet /dev/null "$@" "$kinglet" "$command" --master "http://$api" --hostname-override node-1 --snapshot= --run-dir "$work/run" --run-service-proxy=false \
    --run-firewall=false --enable-cni=false --enable-pod-egress=false --enable-ibgp=false --nodes-full-mesh=false
}
flush_routes() { ip route flush proto 17; ip route flush proto bird; }

for size in 300-nodes 1000-nodes 3000-nodes; do
  "$apiserver" generate --nodes "${size%-*}" --services 0 --endpoints 0 "$work/$size" > /dev/null
  start_api "$work/$size"
  routes_only sync  # makes the bridge and the settings
  ip route show proto 17 | sed 's/^/route add /; s/ dev .*/ proto 17/' > "$work/batch"
  routes=$(wc -l < "$work/batch")
  echo "$size routes $routes routes" >> "$rows"
  { echo 'protocol device { } protocol kernel { ipv4 { export all; }; }'
    echo 'protocol static { ipv4;'
    sed 's/^route add \(.*\) via \(.*\) proto 17/  route \1 via \2;/' "$work/batch"
    echo '}'; } > "$work/bird.conf"
  flush_routes; empty=$(prefixes)
  routes_only sync strace -f -o "$work/trace" -e trace=socket,sendto -e write=all
  for _ in 1 2 3 4 5 6 7; do
    t=$(now); routes_only plan; planned=$(($(now) - t))
    t=$(now); routes_only sync; synced=$(($(now) - t))
    [ "$(prefixes)" = $((empty + routes)) ]
    row sync-routes "$synced"; row plan-routes "$planned"
    t=$(now); routes_only sync; row again-routes $(($(now) - t))
    flush_routes
    read -r _ kernel _ _ refused < <("$meter" replay NETLINK_ROUTE "$work/trace")
    [ "$refused $(prefixes)" = "0 $((empty + routes))" ]
    row routes-kernel "$kernel"
    flush_routes
    t=$(now); ip -batch "$work/batch"; row ip-batch $(($(now) - t))
    flush_routes
    t=$(now)
    bird -f -c "$work/bird.conf" -s "$work/bird.ctl" 2> "$work/bird.log" & bird=$!
    until [ "$(prefixes)" = $((empty + routes)) ]; do sleep 0.002; done
    row bird-routes $(($(now) - t))
    kill $bird; wait $bird || true
    flush_routes
  done
  stop_api
done
