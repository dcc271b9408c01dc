# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154  # its variables are for the scenarios
# network.sh: nodes and routers on one segment, for the scenarios (sourced; bash, in namespaces of its own).
#
#   the first namespace                lan  192.0.2.254/24  2001:db8::fe/64   an API server a cluster
#      |          |            |
#    node-N     node-M       ROUTER    eth0 192.0.2.(10+N) 2001:db8::N; routers: see the scenario
#      |
#   kube-bridge, and pods behind it    10.244.N.0/24  fd44:N::/64
#
# Each node runs kinglet, or BIRD with an equal configuration (SPEAKER=bird, standin.py).

here=${BASH_SOURCE[0]%/*}
LAB=/run/lab
CLUSTER=a
export TMPDIR=$LAB/tmp
# shellcheck source=SCRIPTDIR/../assert.sh
. "$here/../assert.sh"
# within SECONDS SENTENCE PROGRAM...: as in assert.sh, but by the clock, because the programs here take time themselves.
within() {
  local end=$((SECONDS + $1 + 1)) sentence=$2; shift 2
  until "$@" > "$TMPDIR/output" 2>&1; do
    [ $SECONDS -lt $end ] || { fail "$sentence"; sed 's/^/        /' "$TMPDIR/output" | head -20; return; }
    sleep 0.1
  done
  pass "$sentence"
}
case $SPEAKER in bird) PROTO=bird ;; *) PROTO=17 ;; esac
declare -A PORT=([a]=8080 [b]=8081)

lab_up() {
  local scenario=${0##*/}
  local results=$PWD/target/bgp/${scenario%.sh}
  if [ "$$" != 1 ] || [ ! -d "$results" ]; then echo "network.sh: tests/lab/bgp/run starts the scenarios" >&2; exit 1; fi
  mount -t tmpfs lab /run
  mkdir -p $LAB /run/netns
  mount -o bind "$results" $LAB
  mkdir -p $TMPDIR
  ip link set lo up
  ip link add lan type bridge
  ip addr add 192.0.2.254/24 dev lan
  ip addr add 2001:db8::fe/64 dev lan nodad
  ip link set lan up
}

in_ns() { ip netns exec "$@"; }

mac_of() { printf '02:00:c0:00:02:%02x' "$1"; }

# host_up NAME HOST [HOST6]: makes a namespace with 192.0.2.HOST and 2001:db8::HOST6.
host_up() {
  mkdir -p "$LAB/$1"
  ip netns add "$1"
  ip link add "$1" type veth peer name eth0 address "$(mac_of "$2")" netns "$1"
  ip link set "$1" master lan up
  ip -n "$1" link set lo up
  ip -n "$1" link set eth0 up
  ip -n "$1" addr add "192.0.2.$2/24" dev eth0
  ip -n "$1" addr add "2001:db8::${3:-$2}/64" dev eth0 nodad
  in_ns "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 \
    net.ipv4.conf.all.promote_secondaries=1
}

# node_up N [ANNOTATION=VALUE...]: makes node-N and its Node object.
node_up() {
  host_up "node-$1" $((10 + $1)) "$1"
  annotate_node "$@"
}

# fill_neighbours N...: fills the neighbour tables without ARP and ND. The kernel has one table for all namespaces, with at most 1,024
# learned entries; 50 nodes need 5,000.
fill_neighbours() {
  local n m
  for n; do
    for m; do
      [ "$n" = "$m" ] || printf 'neigh replace %s dev eth0 lladdr %s nud permanent\n' \
        "192.0.2.$((10 + m))" "$(mac_of $((10 + m)))" "2001:db8::$m" "$(mac_of $((10 + m)))"
    done > "$LAB/node-$n/neighbours"
    ip -n "node-$n" -batch "$LAB/node-$n/neighbours"
  done
}

# annotate_node N [ANNOTATION=VALUE...]: sets the annotations of a Node object (`addresses=` and `cidrs=` are not annotations).
annotate_node() {
  local n=$1; shift
  mkdir -p "$LAB/$CLUSTER/nodes"
  printf '%s\n' "addresses=192.0.2.$((10 + n)),2001:db8::$n" "cidrs=10.244.$n.0/24,fd44:$n::/64" "$@" \
    > "$LAB/$CLUSTER/nodes/node-$n"
  echo $CLUSTER > "$LAB/node-$n/cluster"
}

# remove_node N: removes a Node object.
remove_node() { rm "$LAB/$CLUSTER/nodes/node-$1"; }

# publish_nodes: makes the API server serve the Node objects as annotate_node and remove_node left them.
publish_nodes() {
  local node
  mkdir -p "$LAB/$CLUSTER/objects"
  python3 "$here/objects.py" "$LAB/$CLUSTER/nodes" "$here/../../fixtures/objects/three-nodes" > "$LAB/$CLUSTER/objects/new"
  mv "$LAB/$CLUSTER/objects/new" "$LAB/$CLUSTER/objects/nodes.json"
  [ "$SPEAKER" = kinglet ] || for node in "$LAB"/node-*/bird.pid; do
    [ ! -e "$node" ] || { node=${node%/*}; node=${node##*/}; standin_conf "$node"; birdc "$node" configure > /dev/null; }
  done
}

# api_up [LIST...]: starts the API server of the cluster with its Nodes and these recorded lists.
api_up() {
  publish_nodes
  for list; do cp "$here/../../fixtures/objects/three-nodes/$list.json" "$LAB/$CLUSTER/objects/"; done
  "$APISERVER" --listen "0.0.0.0:${PORT[$CLUSTER]}" --objects "$LAB/$CLUSTER/objects" --log "$LAB/$CLUSTER/api.log" \
    > "$LAB/$CLUSTER/api" 2>&1 &
  until grep -q listening "$LAB/$CLUSTER/api"; do sleep 0.1; done
}

# speaker NODE FLAG...: starts kinglet on a node. speaker_again NODE: starts it with the same flags again.
speaker() {
  printf '%s\n' "${@:2}" > "$LAB/$1/flags"
  speaker_again "$1"
}
speaker_again() {
  local node=$1 flags=()
  if [ "$SPEAKER" = bird ]; then
    standin_conf "$node"
    # With -R BIRD writes no route to the kernel until all peers are up.
    if grep -q graceful "$LAB/$node/flags"; then flags=(-R); fi
    bird_up "$node" "$LAB/$node/bird.conf" "${flags[@]}"
    return
  fi
  mapfile -t flags < "$LAB/$node/flags"
  mkdir -p "$LAB/$node/run" "$LAB/$node/cni"
  ip netns exec "$node" "$KINGLET" run --master "http://192.0.2.254:${PORT[$(cat "$LAB/$node/cluster")]}" \
    --hostname-override "$node" --run-dir "$LAB/$node/run" --snapshot "$LAB/$node/snapshot" \
    --cni-conf-file "$LAB/$node/cni/10-kuberouter.conflist" --run-service-proxy=false "${flags[@]}" \
    >> "$LAB/$node/log" 2>&1 &
  echo $! > "$LAB/$node/pid"
}
standin_conf() {
  local cluster; cluster=$(cat "$LAB/$1/cluster")
  python3 "$here/standin.py" conf "$1" "$LAB/$cluster/objects" "$LAB/$1/flags" > "$LAB/$1/bird.conf"
}

# ended NODE [SIGNAL]: ends kinglet, BIRD or FRR on a node and waits for its end.
ended() {
  local file
  for file in "$LAB/$1"/*pid; do
    { kill "-${2:-TERM}" "$(cat "$file")" && wait "$(cat "$file")"; } 2> /dev/null || true
    rm "$file"
  done
}

# bgp NODE: prints the peers as `kinglet bgp --format json` does.
bgp() {
  if [ "$SPEAKER" = bird ]; then
    birdc "$1" show protocols all | python3 "$here/standin.py" peers
  else
    "$KINGLET" bgp --run-dir "$LAB/$1/run" --format json
  fi
}
# established NODE ADDRESS...: each of these sessions is up. peers_are NODE N: N sessions are up.
established() {
  local node=$1; shift
  bgp "$node" > "$TMPDIR/bgp" || return
  for addr; do
    jq -e --arg a "$addr" '.peers[] | select(.addr == $a) | .state == "Established"' "$TMPDIR/bgp" > /dev/null ||
      { echo "$node has no session with $addr"; cat "$TMPDIR/bgp"; return 1; }
  done
}
# down NODE ADDRESS: the address is a peer, and its session is not up.
down() {
  bgp "$1" | jq -e --arg a "$2" 'any(.peers[]; .addr == $a and .state != "Established")' ||
    { echo "$1 has a session with $2, or no such peer"; return 1; }
}
peers_are() {
  bgp "$1" > "$TMPDIR/bgp" || return
  local up; up=$(jq '[.peers[] | select(.state == "Established")] | length' "$TMPDIR/bgp")
  [ "$up" = "$2" ] || { echo "$1 has $up sessions, not $2"; return 1; }
}
not() { ! "$@"; }

# routed HOST PREFIX [VIA...]: the kernel has the speaker's route with exactly these next hops (none: no such route).
routed() {
  local host=$1 prefix=$2 six=-4; shift 2
  case $prefix in *:*) six=-6 ;; esac
  ip -n "$host" $six route show "$prefix" proto $PROTO > "$TMPDIR/routes" || return
  local vias; vias=$(grep -o 'via [^ ]*' "$TMPDIR/routes" | cut -d' ' -f2 | sort | xargs)
  [ "$vias" = "$(printf '%s\n' "$@" | sort | xargs)" ] ||
    { echo "$host: $prefix via ${vias:-nothing}, not ${*:-nothing}"; ip -n "$host" $six route show proto $PROTO; return 1; }
}

# file_has FILE REGEX: a line of the file matches. log_has NODE REGEX: a line of the node's log matches.
file_has() { grep -Eq "$2" "$1" || { echo "no $2 in:"; tail -5 "$1"; return 1; }; }
log_has() { file_has "$LAB/$1/log" "$2"; }
# matches REGEX COMMAND...: a line that the command prints matches.
matches() { "${@:2}" > "$TMPDIR/printed" 2>&1; grep -Eq "$1" "$TMPDIR/printed" || { echo "no $1 in:"; cat "$TMPDIR/printed"; return 1; }; }
# lacks REGEX COMMAND...: no line that the command prints matches. A scenario shows by `matches` first that the command works.
lacks() { "${@:2}" > "$TMPDIR/printed" 2>&1; ! grep -E "$1" "$TMPDIR/printed"; }

# pod_add NODE N NAME HOST: makes a pod at 10.244.N.HOST, as a CNI plugin does.
pod_add() {
  ip -n "$1" link add kube-bridge type bridge 2> /dev/null
  ip -n "$1" link set kube-bridge up
  ip -n "$1" addr replace "10.244.$2.1/24" dev kube-bridge
  ip netns add "$3"
  ip link add "$3" netns "$1" type veth peer name eth0 netns "$3"
  ip -n "$1" link set "$3" master kube-bridge up
  ip -n "$3" link set lo up
  ip -n "$3" link set eth0 up
  ip -n "$3" addr add "10.244.$2.$4/24" dev eth0
  ip -n "$3" route add default via "10.244.$2.1"
}

# bird_up HOST CONF [FLAG...]: starts BIRD. birdc HOST WORD...: sends it a command.
bird_up() {
  ip netns exec "$1" bird -f -c "$2" -s "$LAB/$1/bird.ctl" "${@:3}" >> "$LAB/$1/log" 2>&1 &
  echo $! > "$LAB/$1/bird.pid"
  for _ in {1..50}; do [ ! -S "$LAB/$1/bird.ctl" ] || break; sleep 0.1; done
}
birdc() { command birdc -s "$LAB/$1/bird.ctl" "${@:2}"; }

# frr_up HOST CONF [FLAG...]: starts bgpd; zebra too unless --no_zebra is given, and bfdd too if CONF has bfd.
# vty HOST COMMAND: sends FRR a command.
frr_up() {
  local host=$1 conf=$2; shift 2
  local own=(--vty_socket "$LAB/$host")
  echo > "$LAB/$host/zebra.conf"
  case " $* " in
    *" --no_zebra "*) ;;
    *)
      # zebra requires a user of its own.
      chown frr "$LAB/$host"
      ip netns exec "$host" /usr/lib/frr/zebra "${own[@]}" -f "$LAB/$host/zebra.conf" -i "$LAB/$host/z.id" -z "$LAB/$host/zserv" \
        > "$LAB/$host/zebra.out" 2>&1 &
      echo $! > "$LAB/$host/zebra.pid"
      for _ in {1..50}; do [ ! -S "$LAB/$host/zserv" ] || break; sleep 0.1; done ;;
  esac
  case $(cat "$conf") in
    *bfd*)
      ip netns exec "$host" /usr/lib/frr/bfdd "${own[@]}" -i "$LAB/$host/f.id" -z "$LAB/$host/zserv" \
        --bfdctl "$LAB/$host/bfdctl" > "$LAB/$host/bfdd.out" 2>&1 &
      echo $! > "$LAB/$host/bfdd.pid"
      for _ in {1..50}; do [ ! -S "$LAB/$host/bfdd.vty" ] || break; sleep 0.1; done ;;
  esac
  ip netns exec "$host" /usr/lib/frr/bgpd "${own[@]}" -S --log "file:$LAB/$host/log" -f "$conf" -i "$LAB/$host/b.id" -z "$LAB/$host/zserv" "$@" \
    > "$LAB/$host/bgpd.out" 2>&1 &
  echo $! > "$LAB/$host/bgpd.pid"
  for _ in {1..50}; do [ ! -S "$LAB/$host/bgpd.vty" ] || break; sleep 0.1; done
}
vty() { vtysh --vty_socket "$LAB/$1" "${@:2}"; }
