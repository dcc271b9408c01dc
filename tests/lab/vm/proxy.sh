# shellcheck shell=sh
# proxy.sh: the lab with pods, and the assertions of the service proxy (sourced; POSIX sh, in the guest). Every check is made for
# each family of $FAMILIES.
#
#   stranger 192.0.2.253 2001:db8::fd   outside 192.0.2.254 2001:db8::fe   (both send external and Service
#   addresses to node-1); p1a p1b p1c on node-1, p2a p2b on node-2, p3a p3b on node-3, each serving its name
#   on 8080 by TCP, UDP and SCTP; node-1 and node-3 are in zone-0, node-2 is in zone-1.
#
# Clients and addresses have these names; cluster:N and external:N are addresses of Service N.
# shellcheck source=SCRIPTDIR/lab.sh
. /job/lab.sh

FAMILIES="4 6"
SCENARIO=${0%.sh}
PODS="p1a p1b p1c p2a p2b p3a p3b"

# at NAME FAMILY: prints the address of a name.
at() {
  case $2:$1 in
    4:cluster:*) echo "10.96.1.${1#*:}" ;;
    6:cluster:*) printf 'fd00:10:96::1%03d\n' "${1#*:}" ;;
    4:external:*) echo "203.0.113.${1#*:}" ;;
    6:external:*) echo "2001:db8:cb::${1#*:}" ;;
    4:node-*) echo "192.0.2.1${1#node-}" ;;
    6:node-*) echo "2001:db8::${1#node-}" ;;
    4:outside) echo 192.0.2.254 ;;
    6:outside) echo 2001:db8::fe ;;
    4:far) echo 198.51.100.1 ;;
    6:far) echo 2001:db8:fa::1 ;;
    4:stranger) echo 192.0.2.253 ;;
    6:stranger) echo 2001:db8::fd ;;
    [46]:p[123][a-c])
      net=${1%?}; net=$((${net#p} - 1)); host=$(($(echo "${1#p?}" | tr abc 234)))
      if [ "$2" = 4 ]; then echo "10.244.$net.$host"
      elif [ $net = 0 ]; then echo "fd00:10:244::$host"
      else echo "fd00:10:244:$net::$host"; fi ;;
    *) echo "$1" ;;
  esac
}

# from CLIENT PROGRAM...: runs a program at a client.
from() {
  if [ "$1" = outside ]; then shift; "$@"; else ip netns exec "$@"; fi
}

# serving CLIENT NAME PORT: starts another listener there; its process is $!.
serving() {
  if [ "$1" = outside ]; then /job/probe serve "$2" "$3" > /dev/null 2>&1 &
  else ip netns exec "$1" /job/probe serve "$2" "$3" > /dev/null 2>&1 & fi
}

pods_of() { # NODE
  for pod in $PODS; do
    case $pod in p"${1#node-}"?) pod_add "$1" "$pod" > /dev/null; serving "$pod" "$pod-too" 8081 ;; esac
  done
}

start() {
  modprobe -a sctp  # before two pods load it at the same time
  lab_up
  ip netns add stranger
  ip link add stranger type veth peer name eth0 netns stranger
  ip link set stranger master lan up
  ip -n stranger link set lo up
  ip -n stranger link set eth0 up
  ip -n stranger addr add 192.0.2.253/24 dev eth0
  ip -n stranger addr add 2001:db8::fd/64 dev eth0 nodad
  for host in stranger outside; do
    for net in 203.0.113.0/24 10.96.1.0/24; do from $host ip route add $net via 192.0.2.11; done
    for net in 2001:db8:cb::/64 fd00:10:96::/112; do from $host ip -6 route add $net via 2001:db8::1; done
  done
  api_up /job/steps/empty
  synced empty
  others=
  for node in $NODES; do pods_of "$node" & others="$others $!"; done
  # shellcheck disable=SC2086
  wait $others
  for f in $FAMILIES; do
    for pod in $PODS; do
      [ "$pod" = p1c ] || same "$pod answers p1c itself (IPv$f)" "$pod $(at p1c "$f")" \
        "$(from p1c /job/probe http "$(at "$pod" "$f")" 8080 2>&1)"
    done
  done
}

# synced STEP [NODE...]: runs one pass on each node, or on the named nodes, all at the same time.
synced() {
  step=$1; shift; where=${*:-$NODES}
  others=
  for node in $where; do
    { kinglet "$node" sync > "/results/$step.$node.sync" 2> "/results/$step.$node.err"
      echo $? > "/results/$step.$node.code"; } & others="$others $!"
  done
  # shellcheck disable=SC2086
  wait $others
  for node in $where; do
    code=$(cat "/results/$step.$node.code")
    [ "$code" = 0 ] || fail "$step: sync on $node exits 0 ($code: $(grep -h error "/results/$step.$node.err" | head -3))"
  done
}

# step NAME <<'END': puts the Services of this text into the cluster and runs a pass on all nodes. Without a text, the Services of
# an earlier step of this name. (steps.py reads the texts on the host.)
step() {
  cat > /dev/null
  echo "  $1"
  objects "$(folder "$1")"
  synced "$1"
}

# text NAME <<'END': defines the Services of a step without using them; `objects "$(folder NAME)"` puts them into the cluster.
text() { cat > /dev/null; }
folder() { echo "/job/steps/$SCENARIO/$1"; }

# asked CLIENT KIND ADDRESS PORT TIMES: prints the answers to so many requests.
asked() {
  # shellcheck disable=SC2016  # the other shell's
  from "$1" sh -c 'for _ in $(seq "$4"); do /job/probe "$1" "$2" "$3" 2 2>&1; done' - "$2" "$3" "$4" "$5"
}

# served SENTENCE CLIENT ADDRESS PORT SERVERS [SEEN [KIND]]: exactly these servers answer, each in turn, and see the client as SEEN.
served() {
  count=$(echo "$5" | wc -w)
  for f in $FAMILIES; do
    asked "$2" "${7:-http}" "$(at "$3" "$f")" "$4" $((2 * count)) > /tmp/answers
    expected="$(echo "$5" | xargs -n 1 | sort | xargs)${6:+, seeing $(at "$6" "$f")}"
    actual=$(sed 's/^probe: .*/"&"/; s/^\([^" ]*\) .*/\1/' /tmp/answers | sort -u | xargs)
    [ -z "$6" ] || actual="$actual, seeing $(grep -v ^probe: /tmp/answers | cut -d' ' -f2 | sort -u | xargs)"
    same "$1 (IPv$f)" "$expected" "$actual"
  done
}

# ends SENTENCE CODES CLIENT ADDRESS PORT [KIND]: one request ends within a second with one of these exit codes.
ends() {
  for f in $FAMILIES; do
    answer=$(from "$3" /job/probe "${6:-http}" "$(at "$4" "$f")" "$5" 1 2>&1); code=$?
    case " $2 " in
      *" $code "*) pass "$1 (IPv$f)" ;;
      *) fail "$1 (IPv$f): exit $2 expected, $code seen: $answer" ;;
    esac
  done
}
refused() { sentence=$1; shift; ends "$sentence" 7 "$@"; }
dropped() { sentence=$1; shift; ends "$sentence" 28 "$@"; }
unserved() { sentence=$1; shift; ends "$sentence" "7 28" "$@"; }

# same_one SENTENCE CLIENT ADDRESS PORT SERVERS [KIND]: the same one of these servers answers five times; its name is in
# /tmp/one.FAMILY.
same_one() {
  for f in $FAMILIES; do
    asked "$2" "${6:-http}" "$(at "$3" "$f")" "$4" 5 > /tmp/answers
    sed 's/^probe: .*/nobody/; s/ .*//' /tmp/answers | sort -u | xargs > "/tmp/one.$f"
    case " $5 " in
      *" $(cat "/tmp/one.$f") "*) pass "$1 (IPv$f)" ;;
      *) fail "$1 (IPv$f): one of $5 expected, five times; $(cat "/tmp/one.$f") seen" ;;
    esac
  done
}

# ---- daemons ----

daemon() { # NODE [FLAG...]
  node=$1; shift
  # Without `on`, which would run in a shell of its own, so that $! is the daemon.
  ip netns exec "$node" unshare -m /bin/sh /run/lab/on "$node" /job/kinglet run --master "$API" --hostname-override "$node" --run-firewall=false \
    --audit-period 5s "$@" >> "/results/$node.daemon" 2>&1 &
  echo $! > "/run/lab/$node.daemon"
}
signal() { kill "-$2" "$(cat "/run/lab/$1.daemon")"; }   # NODE SIGNAL
# killed ROUNDS: kills and restarts the daemon of node-1 at varying moments, while the endpoints of a Service change. cluster:1 does
# not change, and is requested all the time.
text in <<'END'
web 1 80@30080 : p1a p2a
dns 2 53/udp : p1b p3b
busy 5 80 : p1b p2b p3b
END
text out <<'END'
web 1 80@30080 : p1a p2a
dns 2 53/udp : p1b p3b
busy 5 80 : p3b
END
killed() {
  in_ns node-1 ip monitor route > /results/monitor 2>&1 & monitor=$!
  from p1c /job/probe load "$(at cluster:1 4)" 80 100 $(($1 * 5 / 3)) > /tmp/load 2> /results/load & load=$!
  round=0
  while [ $round -lt "$1" ]; do
    round=$((round + 1))
    objects /job/steps/proxy/out
    sleep "0.$((round * 37 % 90 + 10))"
    signal node-1 KILL; wait "$(cat /run/lab/node-1.daemon)" 2> /dev/null
    objects /job/steps/proxy/in
    sleep "0.$((round * 53 % 90 + 10))"
    daemon node-1
  done
  wait $load
  same "killed $1 times, no request failed" 0 "$(sed -n 's/.* \([0-9]*\) failed.*/\1/p' /tmp/load)"
  sed 's/^/  load  /' /tmp/load
  kill $monitor
  same "no route went away" "" "$(grep -i '^deleted.*proto 17' /results/monitor)"
  within 15 "and in the end all is as it should be" settled node-1
}
