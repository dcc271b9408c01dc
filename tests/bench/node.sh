# shellcheck shell=bash
# shellcheck disable=SC2154  # who sources it says where kinglet and the API server are
# node.sh: node-1 of the generated clusters in namespaces of its own, and a folder that goes with it (sourced by pure.sh and routes.sh).
work=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; rm -rf "$work"' EXIT

ip link set lo up
ip link add eth0 type veth peer name far
ip link set eth0 up; ip link set far up
ip addr add 192.0.2.11/24 dev eth0
ip addr add 172.16.0.11/12 dev eth0

# serve FOLDER: an API server ($server) at $api, which writes down what it is asked
serve() {
  : > "$work/api"
  "$apiserver" --listen 127.0.0.1:0 --objects "$1" --log "$work/requests" > "$work/api" & server=$!
  until api=$(sed -n 's/^listening on //p' "$work/api") && [ -n "$api" ]; do sleep 0.05; done
}
served() { kill "$server"; wait "$server" || true; }
# does STDIN COMMAND...: runs kinglet, which may have something to do (2), and keeps what it says in out and err
does() { local from=$1; shift; "$@" < "$from" > "$work/out" 2> "$work/err" || [ $? = 2 ] || { cat "$work/err" >&2; exit 1; }; }
