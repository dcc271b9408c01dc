#!/bin/sh
# An audit in parts (more than 128 Services) restores the IPVS entries that others removed or changed; a real server that drains
# stays at weight 0 while its Service changes; and after that no pass has a step.
# tier: long
# time: virtual
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

right() { on "$1" /job/kinglet status; }
# total NODE FIELD...: prints the sum of fields of the status, each wherever it occurs.
total() {
  on "$1" /job/kinglet status --format json > /tmp/status.json
  shift
  for field; do grep -o "\"$field\":[0-9]*" /tmp/status.json; done | awk -F: '{ sum += $2 } END { print sum + 0 }'
}
table_of() { in_ns "$1" ipvsadm -Sn | sort; }
now() { # STEP
  echo "  $1"
  objects "$(folder "$1")"
  sleep 0.5
  for node in node-1 node-2; do within 10 "$1: $node has all of it" settled "$node"; done
}

start
for node in node-1 node-2; do serving "$node" "$node" 8080; done
# Three parts: everything but the real servers, the first 128 Services, and the rest with `web`. `held` and `host` are in the second.
text one <<'END'
held 1 80 : p1a
host 2 80 : node-1 node-2
many 20..149 families=4 80 : p3a
web 3 80 : p1a p2a
END
objects "$(folder one)"
daemon node-1 --audit-period 3s
daemon node-2 --audit-period 1h --ipvs-graceful-period 10m
now one
for node in node-1 node-2; do within 10 "$node is right" right "$node"; done
sleep 4  # the first audit
same "all Services have an entry" 133 "$(ipvs node-1 | grep -c '^TCP 10\.96\.1\.[0-9]*:80 rr$')"
served "a Service with host-network endpoints" p1c cluster:2 80 "node-1 node-2"

# quiet_for SECONDS SENTENCE: no daemon has a step.
quiet_for() {
  before="$(total node-1 added changed removed) $(total node-2 added changed removed)"
  audits=$(total node-1 audits)
  sleep "$1"
  same "$2" "$before" "$(total node-1 added changed removed) $(total node-2 added changed removed)"
  audits=$(($(total node-1 audits) - audits))
  echo "  ($audits audits in $1 s)"
  check "an audit is made in parts, more than one each 3 s" test $audits -gt $(($1 / 3 + 1))
}
table_of node-1 > /tmp/ipvs.node-1
quiet_for 7 "audits of what nobody changed have no steps"

# What others change.
failures=$(total node-1 failures)
back() { [ "$(table_of node-1)" = "$(cat /tmp/ipvs.node-1)" ]; }
in_ns node-1 ipvsadm -d -t 10.96.1.3:80 -r 10.244.1.2:8080
in_ns node-1 ipvsadm -d -t 10.96.1.20:80 -r 10.244.2.2:8080
check "a removed real server is gone" sh -c '! ip netns exec node-1 ipvsadm -Ln -t 10.96.1.3:80 | grep -q 10.244.1.2:8080'
within 4 "removed real servers are restored within one audit" back
in_ns node-1 ipvsadm -e -t 10.96.1.3:80 -r 10.244.0.2:8080 -m -w 7
in_ns node-1 ipvsadm -e -t 10.96.1.30:80 -r 10.244.2.2:8080 -m -w 0
within 4 "and weights" back
in_ns node-1 ipvsadm -a -t 10.96.1.40:80 -r 10.244.1.2:8080 -m
within 4 "and a real server too many is removed" back
check "status reports no problem" right node-1

# A whole service: the first part leads to a full pass, the other parts restore their own Services.
has() { in_ns node-1 ipvsadm -Ln -t "$1" > /dev/null 2>&1; }
# The part that comes next depends on the moment, so this is repeated until both ways were seen.
restored=
for pause in 0.1 1.4 0.1 0.7 1.8 0.4 1.1 2.5 0.1; do
  case $restored in *parts*whole* | *whole*parts*) break ;; esac
  sleep $pause
  for vip in 10.96.1.1:80 10.96.1.3:80; do in_ns node-1 ipvsadm -D -t $vip; done
  tries=0 how=whole
  until has 10.96.1.1:80 && has 10.96.1.3:80; do
    tries=$((tries + 1)); [ $tries -lt 20 ] || break
    if has 10.96.1.1:80 || has 10.96.1.3:80; then how=parts; fi
    sleep 0.3
  done
  restored="$restored $how"
  [ $how = parts ] || within 1 "a full pass restores services together with their real servers" back
  within 4 "removed services are restored" back
done
check "status reports no problem" right node-1
same "no pass failed" "$failures" "$(total node-1 failures)"
echo "  (restored in:$restored)"
check "parts restored one service each" sh -c "echo '$restored' | grep -q parts"
check "and a full pass restored both" sh -c "echo '$restored' | grep -q whole"
served "and all is served" p1c cluster:3 80 "p1a p2a" p1c

# A drain: the audits of node-2 are an hour apart, so what happens there follows from the events.
holding=
for f in $FAMILIES; do
  from p2b /job/probe hold "$(at cluster:1 "$f")" 80 3600 > "/tmp/held.$f" 2>&1 & holding="$holding $!"
done
sleep 1
draining() { # SENTENCE WEIGHT
  same "$1" "TCP 10.96.1.1:80 -> 10.244.0.2:8080 Masq $2
TCP [fd00:10:96::1001]:80 -> [fd00:10:244::2]:8080 Masq $2" "$(ipvs node-2 | grep -E '(1\.1:80|1001\]:80) -> .*(244\.0\.2|244::2\]):')"
}
draining "the endpoint of a connection" 1
text leaves <<'END'
held 1 80 : p2a
host 2 80 : node-1 node-2
many 20..149 families=4 80 : p3a
web 3 80 : p1a p2a
END
now leaves
draining "an endpoint that left drains" 0
served "and gets no new connection" p2b cluster:1 80 p2a
drains=$(cat /run/lab/node-2/run/kinglet/drains)
same "both are recorded" 2 "$(echo "$drains" | grep -o until | wc -l)"
sleep 2
text changes <<'END'
held 1 affinity=600 80@30001 81>8080 : p2a p3a
host 2 80 : node-1 node-2
many 20..149 families=4 80 : p3a
web 3 80 : p1a p2a
END
now changes
draining "it drains on while its Service changes" 0
same "until the same time" "$drains" "$(cat /run/lab/node-2/run/kinglet/drains)"
text again <<'END'
held 1 80@30001 : p2a p3a
host 2 80 : node-1 node-2
many 20..149 families=4 80 : p3a
web 3 80 : p1a p2a
END
now again
draining "and changes again" 0
same "until the same time again" "$drains" "$(cat /run/lab/node-2/run/kinglet/drains)"
check "its connections live" sh -c "kill -0 $holding"
quiet_for 6 "while it drains no pass has a step"
in_ns p2b ss -K dport = 80 > /results/ss 2>&1
gone() { ! ipvs node-2 | grep -qE '(1\.1:80|1001\]:80) -> .*(244\.0\.2|244::2\]):'; }
within 25 "it is removed after its connections have ended" gone
same "and from the record" "[]" "$(cat /run/lab/node-2/run/kinglet/drains)"
now again
quiet_for 7 "then no pass has a step"
for node in node-1 node-2; do check "$node is right" right $node; done
kill "$(cat /run/lab/node-1.daemon)"; wait "$(cat /run/lab/node-1.daemon)"
quiet node-1
finish
