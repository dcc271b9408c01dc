# shellcheck shell=sh
# shellcheck disable=SC2034  # its variables are for the scenarios
# lab.sh: three nodes in one kernel, for the scenarios (sourced; POSIX sh, in the guest).
#
#   outside (the root namespace)      lan  192.0.2.254/24  2001:db8::fe/64   API server at $API
#      |            |           |
#    node-1       node-2      node-3   eth0 192.0.2.11 .12 .13   2001:db8::1 ::2 ::3
#
# The addresses are those of the recorded Nodes (tests/fixtures/objects). A pod is a namespace that Debian's CNI plugins connect
# with the configuration that kinglet wrote on its node.

API=http://192.0.2.254:8080
NODES="node-1 node-2 node-3"
FLAGS=
OBJECTS=/run/objects
OWN="/etc/cni /var/lib/cni /var/lib/kinglet /run/kinglet"   # each node has its own
# shellcheck source=SCRIPTDIR/../assert.sh
. /job/assert.sh

# on NODE PROGRAM...: runs a program in the node's network namespace and with the node's own folders.
on() {
  ip netns exec "$1" unshare -m /bin/sh /run/lab/on "$@"
}

lab_up() {
  [ -e /run/lab/on ] && return
  mkdir -p /run/lab
  cat > /run/lab/on <<'END'
node=$1; shift
for d in $OWN; do mount -o bind "/run/lab/$node$d" "$d"; done
exec "$@"
END
  sed -i "s|\$OWN|$OWN|" /run/lab/on
  cat > /run/lab/state <<'END'
ip -o link | sed 's/^[0-9]*: //; s/@if[0-9]*//; s/ qdisc .*//' | sort
ip -o addr | sed 's/^[0-9]*: //; s/ *valid_lft.*//' | grep -v ' fe80:' | sort
ip -d route show table all | grep -v 'fe80:\|ff00:' | sort
ipvsadm -Sn | sort
nft list ruleset | sed 's/ counter packets [0-9]* bytes [0-9]*//'
grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/vs /proc/sys/net/ipv4/conf/all /proc/sys/net/bridge \
  /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/*/accept_ra 2>/dev/null | sort
END
  # shellcheck disable=SC2086
  mkdir -p $OWN
  ip link add lan type bridge
  ip addr add 192.0.2.254/24 dev lan
  ip addr add 2001:db8::fe/64 dev lan nodad
  ip link set lan up
  for node in $NODES; do
    for d in $OWN; do mkdir -p "/run/lab/$node$d"; done
    ip netns add "$node"
    ip link add "$node" type veth peer name eth0 netns "$node"
    ip link set "$node" master lan up
    ip -n "$node" link set lo up
    ip -n "$node" link set eth0 up
    ip -n "$node" addr add "192.0.2.1${node#node-}/24" dev eth0
    ip -n "$node" addr add "2001:db8::${node#node-}/64" dev eth0 nodad
    ip -n "$node" route add default via 192.0.2.254
  done
}

lab_down() {
  for node in $NODES; do ip netns del "$node"; done
  ip link del lan
  rm -r /run/lab
}

# kinglet NODE COMMAND...: runs kinglet with $FLAGS and without a snapshot, because the nodes share their file systems.
kinglet() {
  node=$1; shift
  # shellcheck disable=SC2086
  on "$node" /job/kinglet "$@" --master $API --hostname-override "$node" --snapshot= $FLAGS
}

# api_up DIR: starts the API server with the lists of DIR.
api_up() {
  mkdir -p $OBJECTS
  objects "$1"
  api_start
}

# api_start [FLAG...]: starts the API server with the current lists.
api_start() {
  : > /tmp/api
  /job/apiserver --listen 0.0.0.0:8080 --objects $OBJECTS --log /results/apiserver.log "$@" > /tmp/api 2>&1 &
  api=$!
  until grep -q listening /tmp/api; do sleep 0.1; done
}

# objects DIR: makes the API server serve the lists of DIR from now on.
objects() {
  for list in "$1"/*.json; do
    cp "$list" $OBJECTS/new; mv $OBJECTS/new "$OBJECTS/${list##*/}"
  done
}

# plugin_of FILE: prints the CNI configuration of the plugin in a conflist that has exactly one plugin and one line.
plugin_of() {
  sed 's/^{\("cniVersion":.*\),"plugins":\[{\(.*\)}\]}$/{\1,\2}/' "$1"
}

cni() { # NODE POD ADD|DEL
  conf=/run/lab/$1/etc/cni/net.d/10-kuberouter.conflist
  plugin_of "$conf" | CNI_COMMAND=$3 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 \
    CNI_PATH=/usr/lib/cni CNI_ARGS='' on "$1" /usr/lib/cni/bridge
}

# pod_add NODE NAME: adds a pod that answers on port 8080; prints its address.
pod_add() {
  ip netns add "$2" || return
  ip -n "$2" link set lo up
  cni "$1" "$2" ADD > "/run/lab/$2.cni" || { cat "/run/lab/$2.cni" >&2; return 1; }
  ip netns exec "$2" /job/probe serve "$2" 8080 > /dev/null 2>&1 &
  echo $! > "/run/lab/$2.pid"
  ip -n "$2" -4 -o addr show dev eth0 | sed 's/.*inet \([^/]*\).*/\1/'
}

pod_del() { # NODE NAME
  kill "$(cat "/run/lab/$2.pid")"
  cni "$1" "$2" DEL
  ip netns del "$2"
}

# in_ns NAMESPACE PROGRAM...: runs a program in a network namespace, without a node's folders.
in_ns() { ip netns exec "$@"; }

# recorded_pods: prints the recorded Pods in the order in which host-local gives them their recorded addresses.
recorded_pods() {
  cat <<'END'
node-1 web-0 10.244.0.2
node-1 web-3 10.244.0.3
node-1 web-notready 10.244.0.4
node-1 mixed-a 10.244.0.5
node-1 lb-0 10.244.0.6
node-1 dns-0 10.244.0.7
node-2 web-1 10.244.1.2
node-2 web-term 10.244.1.3
node-2 mixed-b 10.244.1.4
node-2 db-0 10.244.1.5
node-2 sctp-0 10.244.1.6
node-3 web-2 10.244.2.2
node-3 mixed-c 10.244.2.3
node-3 lb-1 10.244.2.4
node-3 dns-1 10.244.2.5
END
}

# ipvs NODE: prints the IPVS table, sorted and without counters; each real server has its service in front.
ipvs() { in_ns "$1" ipvsadm -Ln | entries; }
entries() {
  awk '
    $1 == "->" && $2 != "RemoteAddress:Port" { print at, "->", $2, $3, $4 }
    /^(TCP|UDP|SCTP) / { at = $1 " " $2; print }
    /^FWM / { at = $1; $2 = ""; sub(" IPv6", ""); print }' | sed 's/  */ /g; s/ $//' | LC_ALL=C sort
}

# state NODE: prints all kernel state that kinglet may change there, sorted, without counters and link-local addresses.
state() {
  in_ns "$1" sh /run/lab/state
  find "/run/lab/$1/etc/cni" -type f -exec md5sum {} +
}
