#!/bin/sh
# Another program's firewall drops by its policy in INPUT and FORWARD, as Docker's and ufw's do: traffic of pods and Services
# passes, and no other traffic.
# tier: quick
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

both() { for t in iptables ip6tables; do in_ns node-1 $t "$@"; done; }
icmp() { # -A|-D: the lab's own needs: answers, and IPv6's neighbours
  both "$1" INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  in_ns node-1 ip6tables "$1" INPUT -p ipv6-icmp -j ACCEPT
}
closes() { icmp -A; both -P FORWARD DROP; both -P INPUT DROP; }
tagged() { for t in iptables-save ip6tables-save; do in_ns node-1 $t -t filter; done | grep kinglet; }
# All four rules of kinglet's, each first in its chain.
heads() {
  for t in iptables ip6tables; do for chain in INPUT FORWARD; do in_ns node-1 $t -S $chain 1; done; done
}
rule='-m mark --mark 0x4b1a0000/0xfffe0000 -m comment --comment kinglet -j ACCEPT'
rules="-A INPUT $rule
-A FORWARD $rule"
needs() { # SENTENCE
  served "$1: pod to pod elsewhere" p1c p2a 8080 p2a p1c
  served "$1: pod to pod from elsewhere" p2b p1a 8080 p1a p2b
  served "$1: ClusterIP, from a pod" p1c cluster:1 80 "p1a p2a" p1c
  served "$1: ClusterIP, from the node" node-1 cluster:1 80 "p1a p2a" node-1
  served "$1: a pod to itself" p1a cluster:2 80 p1a
  served "$1: node port, to an endpoint here and one elsewhere" outside node-1 30080 "p1a p2a"
  served "$1: node port, UDP" outside node-1 30080 "p1a p2a" "" udp
  served "$1: node port, Local" outside node-1 30083 p1a outside
  served "$1: external address" outside external:1 80 "p1a p2a"
  served "$1: a pod to the outside" p1c outside 9000 outside node-1
}
closed() { # SENTENCE
  dropped "$1: the node's own ports" outside node-1 22
  dropped "$1: what passes and is no pod's" stranger far 9000
}

start
serving outside outside 9000
serving node-1 host 22
# The stranger sends to `far`, an address of node-2, by way of node-1, which would send it a redirect to the shorter way.
from stranger sysctl -qw net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.eth0.accept_redirects=0
for f in $FAMILIES; do
  case $f in 4) far=198.51.100.1/32 net=198.51.100.0/24 ;; 6) far=2001:db8:fa::1/128 net=2001:db8:fa::/64 ;; esac
  in_ns node-2 ip -"$f" addr add "$far" dev lo
  in_ns node-1 ip -"$f" route add "$net" via "$(at node-2 "$f")"
  from stranger ip -"$f" route add "$net" via "$(at node-1 "$f")"
done
serving node-2 far 9000
sleep 0.5
step services <<'END'
web 1 external=1 80/tcp@30080 u=80/udp@30080 : p1a p2a
self 2 80 : p1a
local 3 type=NodePort etp=Local 80@30083 : p1a p2a
END
needs "no firewall"
served "no firewall: what passes and is no pod's" stranger far 9000 far stranger

closes
unserved "the firewall alone stops pods" p1c p2a 8080
unserved "the firewall alone stops Services" outside node-1 30080
kinglet node-1 plan > /tmp/plan 2> /dev/null
same "plan accepts in each of its chains" "4" "$(grep -c '^+ accept in ip' /tmp/plan)"
synced services
same "sync takes the steps of plan" "$(grep -v '^!' /tmp/plan)" "$(cat /results/services.node-1.sync)"
needs "with our rules"
closed "with our rules"
same "iptables -S shows them at the head of each chain" "$rules
$rules" "$(heads)"
check "iptables -L goes on working" both -L -n
quiet node-1

t="iptables-save | iptables-restore"
in_ns node-1 sh -c 'iptables-save | iptables-restore; ip6tables-save | ip6tables-restore'
same "$t: they are there" "$rules
$rules" "$(heads)"
kinglet node-1 plan > /tmp/plan 2> /dev/null
same "$t: they are known as ours" "" "$(grep -v '^!' /tmp/plan)"
in_ns node-1 sh -c 'iptables-save | iptables-restore --noflush'
check "$t --noflush goes on working" both -S
served "$t: Services" outside node-1 30080 "p1a p2a"
both -F FORWARD
unserved "a flushed chain stops pods" p1c p2a 8080
synced services
served "the next pass puts our rule back" p1c p2a 8080 p2a p1c
same "and nothing else" "+ accept in ip filter FORWARD
+ accept in ip6 filter FORWARD" "$(cat /results/services.node-1.sync)"

both -P FORWARD ACCEPT
both -P INPUT ACCEPT
synced services
same "where the policy is to accept, our rules go" "" "$(tagged)"
same "and so do our marks" "" "$(in_ns node-1 nft list table inet kinglet | grep pass-)"
icmp -D
closes
kinglet node-1 plan --format sh > /tmp/plan.sh 2> /dev/null
check "the script is run" in_ns node-1 sh -e /tmp/plan.sh
kinglet node-1 plan > /tmp/plan 2> /dev/null
same "the script makes the same" "" "$(grep -v '^!' /tmp/plan)"
served "the script makes the same: Services" outside node-1 30080 "p1a p2a"
both -P FORWARD ACCEPT
both -P INPUT ACCEPT
kinglet node-1 plan --format sh > /tmp/plan.sh 2> /dev/null
check "the script that takes them away is run" in_ns node-1 sh -e /tmp/plan.sh
same "it takes them away" "" "$(tagged)"
kinglet node-1 plan > /tmp/plan 2> /dev/null
same "then there is nothing to do" "" "$(grep -v '^!' /tmp/plan)"

# The legacy xtables: kinglet prints what the user must do.
both -F
legacy() { for t in iptables-legacy ip6tables-legacy; do in_ns node-1 $t "$@"; done; }
legacy -P FORWARD ACCEPT
synced services
same "the older iptables: no message while it accepts" "" "$(grep legacy /results/services.node-1.err)"
legacy -P FORWARD DROP
synced services
served "the older iptables: not before it is done" p1c p1c 8080 p1c
unserved "the older iptables: pods are stopped" p1c p2a 8080
grep -o 'ip6*tables-legacy -I .*' /results/services.node-1.err > /tmp/commands
same "the older iptables: a command for each family" 2 "$(wc -l < /tmp/commands)"
check "the older iptables: the commands" in_ns node-1 sh -e /tmp/commands
needs "the older iptables, then"
synced services
same "the older iptables: no further message" "" "$(grep legacy /results/services.node-1.err)"
# Rules that a kube-proxy left there.
left() { kinglet node-1 check 2> /dev/null | grep 'iptables-legacy rules of kube-proxy'; }
same "the older iptables: nothing left of a kube-proxy" "" "$(left)"
for t in iptables-legacy ip6tables-legacy; do
  in_ns node-1 $t -N KUBE-SERVICES; in_ns node-1 $t -A OUTPUT -j KUBE-SERVICES
  check "$t: check finds what a kube-proxy left" left
  in_ns node-1 $t -F; in_ns node-1 $t -X
done
legacy -F; legacy -P FORWARD ACCEPT

# A table of nftables itself.
in_ns node-1 nft 'table inet fw {
  chain forward { type filter hook forward priority 0; policy drop; }
  chain input { type filter hook input priority 0; policy drop
    ct state established,related accept
    meta l4proto 58 accept
  }
}'
unserved "a table of nftables' own stops pods" p1c p2a 8080
synced services
needs "a table of nftables' own"
closed "a table of nftables' own"
quiet node-1
on node-1 /job/kinglet cleanup > /tmp/cleaned 2>&1
same "a clean-up takes our rules away" "" "$(in_ns node-1 nft list ruleset | grep kinglet)"
same "and nothing else of that table" 2 "$(in_ns node-1 nft list table inet fw | grep -c 'policy drop')"
finish
