#!/bin/sh
# Endpoints are removed while they are in use: a connection stays to its end; all endpoints of a Service are replaced under load;
# and the same while sync is killed at varying moments.
# tier: long
# time: virtual
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
sysctl -qw net.netfilter.nf_conntrack_max=262144  # the machine is small, the load is not
step one <<'END'
web 1 80 : p1a p2a
END
holding=
for f in $FAMILIES; do
  # Two connections each: one is at p1a, one at p2a.
  for n in 1 2; do
    from p1c /job/probe hold "$(at cluster:1 "$f")" 80 20 > "/tmp/held.$f.$n" 2>&1 & holding="$holding $!"
    sleep 0.3
  done
done
sleep 1
step two <<'END'
web 1 80 : p1a~ p2a
END
served "a terminating endpoint gets no new connection" p1c cluster:1 80 p2a p1c
step three <<'END'
web 1 80 : p2a
END
served "an endpoint that went gets no new connection" p1c cluster:1 80 p2a p1c
synced three-again
# shellcheck disable=SC2086
wait $holding
for f in $FAMILIES; do
  same "connections stay, also to an endpoint that went (IPv$f)" "21 answers of p1a $(at p1c "$f"), 21 answers of p2a $(at p1c "$f")" \
    "$(cat /tmp/held."$f".? | sort | xargs | sed 's/ 21/, 21/')"
done
step back <<'END'
web 1 80 : p1a p2a
END
served "an endpoint that comes back gets new connections" p1c cluster:1 80 "p1a p2a" p1c
step again <<'END'
web 1 80 : p2a
END
sleep 45
synced again-later
same "when its time is over it is gone" "" "$(ipvs node-1 | grep -E '10\.244\.0\.2|fd00:10:244::2')"

# Replaces the six pods of a Service one after another; each serves for 10 s after it became terminating.
text a0 <<'END'
web 1 80@30080 : p1a p2a p3a
END
text a1 <<'END'
web 1 80@30080 : p1a~ p1b p2a p3a
END
text a2 <<'END'
web 1 80@30080 : p1a~ p1b p2a~ p2b p3a
END
text a3 <<'END'
web 1 80@30080 : p1b p2a~ p2b p3a
END
text a4 <<'END'
web 1 80@30080 : p1b p2a~ p2b p3a~ p3b
END
text a5 <<'END'
web 1 80@30080 : p1b p2b p3a~ p3b
END
text a6 <<'END'
web 1 80@30080 : p1b p2b p3b
END
text b1 <<'END'
web 1 80@30080 : p1b~ p1a p2b p3b
END
text b2 <<'END'
web 1 80@30080 : p1b~ p1a p2b~ p2a p3b
END
text b3 <<'END'
web 1 80@30080 : p1a p2b~ p2a p3b
END
text b4 <<'END'
web 1 80@30080 : p1a p2b~ p2a p3b~ p3a
END
text b5 <<'END'
web 1 80@30080 : p1a p2a p3b~ p3a
END

# one_pass NODE: one pass that can be killed; the process is kinglet's own.
one_pass() {
  exec ip netns exec "$1" unshare -m /bin/sh /run/lab/on "$1" /job/kinglet sync --master "$API" --hostname-override "$1" --snapshot= \
    >> "/results/loop.$1" 2>&1
}

# keep_up NODE: one pass each second, as a faster cron would.
keep_up() {
  while [ -e /tmp/rolling ]; do one_pass "$1" & wait $!; sleep 1; done
}

# keep_up_killed NODE: the same, but two of three passes are killed, each at another moment.
keep_up_killed() {
  awk -v seed="${1#node-}" 'BEGIN { srand(seed); for (i = 0; i < 1000; i++) printf "%.2f\n", rand() * 0.15 }' > "/tmp/moments.$1"
  while read -r moment && [ -e /tmp/rolling ]; do
    one_pass "$1" & pass=$!
    count=$((count + 1))
    if [ $((count % 3)) = 0 ]; then wait $pass; sleep 0.6; continue; fi
    sleep "$moment"
    kill -9 $pass 2> /dev/null && echo killed >> "/results/killed.$1"
    wait $pass 2> /dev/null
    sleep 0.3
  done < "/tmp/moments.$1"
}

end_server() { kill "$(cat "/run/lab/$1.pid")"; }
wait_until() { # SECONDS since the roll began
  left=$(($1 + began - $(date +%s)))
  [ $left -le 0 ] || sleep $left
}

# roll SENTENCE HOW OLD NEW LAST FAMILY: under 200 requests a second from a pod, and 20 from outside at node-2's node port.
roll() {
  touch /tmp/rolling
  for node in node-1 node-2; do $2 $node 2> /dev/null & done
  from p1c /job/probe load "$(at cluster:1 "$6")" 80 200 30 > /tmp/inside 2> "/results/$2.inside.$6" & inside=$!
  from outside /job/probe load "$(at node-2 "$6")" 30080 20 30 > /tmp/outside 2> "/results/$2.outside.$6" & outside=$!
  began=$(date +%s)
  wait_until 2; objects "$(folder "${4}1")"
  wait_until 8; objects "$(folder "${4}2")"
  wait_until 12; end_server "p1$3"; objects "$(folder "${4}3")"
  wait_until 14; objects "$(folder "${4}4")"
  wait_until 18; end_server "p2$3"; objects "$(folder "${4}5")"
  wait_until 24; end_server "p3$3"; objects "$(folder "$5")"
  wait $inside; wait $outside
  rm /tmp/rolling
  same "$1: no failed request, from a pod (IPv$6)" "6000 ok, 0 failed" "$(cat /tmp/inside)"
  same "$1: no failed request, from outside (IPv$6)" "600 ok, 0 failed" "$(cat /tmp/outside)"
  for n in 1 2 3; do
    from "p$n$3" /job/probe serve "p$n$3" 8080 > /dev/null 2>&1 & echo $! > "/run/lab/p$n$3.pid"
  done
  sleep 3
  synced "$5"
}
step a0
# Without any change, the machine itself can serve this load.
for f in $FAMILIES; do
  same "200 requests a second, 10 s, nothing changes (IPv$f)" "2000 ok, 0 failed" \
    "$(from p1c /job/probe load "$(at cluster:1 "$f")" 80 200 10 2> "/results/calm.$f")"
done
t="all endpoints are replaced under load"
roll "$t" keep_up a a a6 4
served "$t: then the Service is as in the objects" p1c cluster:1 80 "p1b p2b p3b" p1c
roll "$t" keep_up b b a0 6
served "$t: then the Service is as in the objects" p1c cluster:1 80 "p1a p2a p3a" p1c
t="all endpoints are replaced under load, sync is killed meanwhile"
count=0
roll "$t" keep_up_killed a a a6 4
roll "$t" keep_up_killed b b a0 6
served "$t: then the Service is as in the objects" p1c cluster:1 80 "p1a p2a p3a" p1c
check "it was killed often" test "$(cat /results/killed.* | wc -l)" -gt 20
finish
