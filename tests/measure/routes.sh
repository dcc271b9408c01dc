#!/usr/bin/env bash
# routes.sh KINGLET APISERVER ROWS: routes to the pods of so many nodes, in namespaces of its own: a `sync` without what a `plan` takes
# (the API, and the look at the kernel), `ip -batch` of the same routes, and BIRD's kernel protocol.
set -euo pipefail
kinglet=$1 apiserver=$2 rows=$3 work=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$work"' EXIT

ip link set lo up
ip link add eth0 type veth peer name far
ip link set eth0 up; ip link set far up
ip addr add 192.0.2.11/24 dev eth0
ip addr add 172.16.0.11/12 dev eth0
prefixes() { sed -n '/Prefixes/ { s/[^0-9]*//p; q }' /proc/net/fib_triestat; }
now() { date +%s%N; }
row() { echo "$size $1 $(($2 / 1000)) us" | tee -a "$rows"; }
does() { # does COMMAND: this node's routes, and nothing else
  "$kinglet" "$1" --master "http://$api" --hostname-override node-1 --snapshot= --run-dir "$work/run" --run-service-proxy=false \
    --run-firewall=false --enable-cni=false --enable-pod-egress=false --enable-ibgp=false --nodes-full-mesh=false \
    > "$work/steps" 2> "$work/err" || [ $? = 2 ] || { cat "$work/err" >&2; exit 1; }
}
flushed() { ip route flush proto 17; ip route flush proto bird; }

for size in 300-nodes 1000-nodes 3000-nodes; do
  "$apiserver" generate --nodes "${size%-*}" --services 0 --endpoints 0 "$work/$size" > /dev/null
  rm -f "$work/api"; : > "$work/api"
  "$apiserver" --listen 127.0.0.1:0 --objects "$work/$size" --log /dev/null > "$work/api" & server=$!
  until api=$(sed -n 's/^listening on //p' "$work/api") && [ -n "$api" ]; do sleep 0.05; done
  does sync  # the bridge and the settings, once
  ip route show proto 17 | sed 's/^/route add /; s/ dev .*/ proto 17/' > "$work/batch"
  routes=$(wc -l < "$work/batch")
  echo "$size routes $routes routes" >> "$rows"
  { echo 'protocol device { } protocol kernel { ipv4 { export all; }; }'
    echo 'protocol static { ipv4;'
    sed 's/^route add \(.*\) via \(.*\) proto 17/  route \1 via \2;/' "$work/batch"
    echo '}'; } > "$work/bird.conf"
  flushed; empty=$(prefixes)
  for _ in 1 2 3 4 5 6 7; do
    t=$(now); does plan; planned=$(($(now) - t))
    t=$(now); does sync; synced=$(($(now) - t))
    [ "$(prefixes)" = $((empty + routes)) ]
    row sync-routes "$synced"; row plan-routes "$planned"
    t=$(now); does sync; row again-routes $(($(now) - t))
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
  kill $server; wait $server || true
done
