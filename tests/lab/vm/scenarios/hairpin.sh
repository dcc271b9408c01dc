#!/bin/sh
# A pod reaches itself through its Service, with and without br_netfilter, whatever `hairpinMode` the CNI configuration has.
# tier: quick
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
step one <<'END'
web 1 external=1 80/tcp@30080 u=80/udp@30080 : p1a
END
ports() { in_ns node-1 ls /sys/class/net/kube-bridge/brif; }
hairpins() { in_ns node-1 sh -c 'cat /sys/class/net/kube-bridge/brif/*/hairpin_mode' | xargs; }
disable_hairpin() { for port in $(ports); do in_ns node-1 bridge link set dev "$port" hairpin off; done; }
netfilter() { for f in ip ip6; do in_ns node-1 sh -c "echo $1 > /proc/sys/net/bridge/bridge-nf-call-${f}tables"; done; }
reaches_itself() {
  served "$1" p1a cluster:1 80 p1a
  served "$1: UDP" p1a cluster:1 80 p1a "" udp
  served "$1: node port" p1a node-1 30080 p1a
  served "$1: external address" p1a external:1 80 p1a
}
reaches_itself "a pod reaches itself, hairpinMode"

# These packets are routed, so no port needs hairpin mode.
disable_hairpin
netfilter 0
reaches_itself "a pod reaches itself, without br_netfilter and hairpinMode"

# Here they are bridged, and the port has to send them back.
netfilter 1
for f in $FAMILIES; do
  from p1a /job/probe http "$(at cluster:1 "$f")" 80 1 > /dev/null 2>&1
  same "with br_netfilter and without hairpinMode it would not (IPv$f)" 28 $?
done
kinglet node-1 plan > /tmp/plan 2> /dev/null
same "plan has a step for each port" "$(ports | sed 's/^/+ hairpin /')" "$(grep -v '^!' /tmp/plan)"
kinglet node-1 plan --format sh > /tmp/plan.sh 2> /dev/null
in_ns node-1 sh -e /tmp/plan.sh
same "the script sets hairpin mode on each port" "1 1 1" "$(hairpins)"
disable_hairpin
synced one
same "sync sets hairpin mode on each port" "1 1 1" "$(hairpins)"
reaches_itself "a pod reaches itself, without hairpinMode"
quiet node-1
finish
