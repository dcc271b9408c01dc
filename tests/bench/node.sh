# shellcheck shell=bash
# shellcheck disable=SC2154  # the script that sources this file sets kinglet and apiserver
# node.sh: makes node-1 of the generated clusters in its own namespaces, and a temporary folder (sourced by pure.sh and routes.sh).
work=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$work"' EXIT

ip link set lo up
ip link add eth0 type veth peer name far
ip link set eth0 up; ip link set far up
ip addr add 192.0.2.11/24 dev eth0
ip addr add 172.16.0.11/12 dev eth0

# start_api FOLDER: starts an API server ($server) at $api, which logs its requests.
start_api() {
  : > "$work/api"
  "$apiserver" --listen 127.0.0.1:0 --objects "$1" --log "$work/requests" > "$work/api" & server=$!
  until api=$(sed -n 's/^listening on //p' "$work/api") && [ -n "$api" ]; do sleep 0.05; done
}
stop_api() { kill "$server"; wait "$server" || true; }
# run_kinglet STDIN COMMAND...: runs a command that may exit with 2 (there are steps), with its output in out and err.
run_kinglet() { local from=$1; shift; "$@" < "$from" > "$work/out" 2> "$work/err" || [ $? = 2 ] || { cat "$work/err" >&2; exit 1; }; }
