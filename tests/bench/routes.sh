#!/usr/bin/env bash
# routes.sh KINGLET APISERVER METER ROWS: routes to the pods of so many nodes, in namespaces of its own: a `sync` without what a `plan`
# takes (the API, and the look at the kernel), `ip -batch` of the same routes, BIRD's kernel protocol, and the kernel alone with the
# messages of the `sync`.
set -euo pipefail
kinglet=$1 apiserver=$2 meter=$3 rows=$4
# shellcheck source=SCRIPTDIR/node.sh
. "${0%/*}/node.sh"

prefixes() { sed -n '/Prefixes/ { s/[^0-9]*//p; q }' /proc/net/fib_triestat; }
now() { date +%s%N; }
row() { echo "$size $1 $(($2 / 1000)) us" | tee -a "$rows"; }
only() { # only COMMAND [BEFORE...]: this node's routes, and nothing else
  local command=$1; shift
  does /dev/null "$@" "$kinglet" "$command" --master "http://$api" --hostname-override node-1 --snapshot= --run-dir "$work/run" --run-service-proxy=false \
    --run-firewall=false --enable-cni=false --enable-pod-egress=false --enable-ibgp=false --nodes-full-mesh=false
}
flushed() { ip route flush proto 17; ip route flush proto bird; }

for size in 300-nodes 1000-nodes 3000-nodes; do
  "$apiserver" generate --nodes "${size%-*}" --services 0 --endpoints 0 "$work/$size" > /dev/null
  serve "$work/$size"
  only sync  # the bridge and the settings, once
  ip route show proto 17 | sed 's/^/route add /; s/ dev .*/ proto 17/' > "$work/batch"
  routes=$(wc -l < "$work/batch")
  echo "$size routes $routes routes" >> "$rows"
  { echo 'protocol device { } protocol kernel { ipv4 { export all; }; }'
    echo 'protocol static { ipv4;'
    sed 's/^route add \(.*\) via \(.*\) proto 17/  route \1 via \2;/' "$work/batch"
    echo '}'; } > "$work/bird.conf"
  flushed; empty=$(prefixes)
  only sync strace -f -o "$work/trace" -e trace=socket,sendto -e write=all
  for _ in 1 2 3 4 5 6 7; do
    t=$(now); only plan; planned=$(($(now) - t))
    t=$(now); only sync; synced=$(($(now) - t))
    [ "$(prefixes)" = $((empty + routes)) ]
    row sync-routes "$synced"; row plan-routes "$planned"
    t=$(now); only sync; row again-routes $(($(now) - t))
    flushed
    read -r _ kernel _ _ refused < <("$meter" replay NETLINK_ROUTE "$work/trace")
    [ "$refused $(prefixes)" = "0 $((empty + routes))" ]
    row routes-kernel "$kernel"
    flushed
    t=$(now); ip -batch "$work/batch"; row ip-batch $(($(now) - t))
    flushed
    t=$(now)
    bird -f -c "$work/bird.conf" -s "$work/bird.ctl" 2> "$work/bird.log" & bird=$!
    until [ "$(prefixes)" = $((empty + routes)) ]; do sleep 0.002; done
    row bird-routes $(($(now) - t))
    kill $bird; wait $bird || true
    flushed
  done
  served
done
