#!/bin/sh
# UDP flows follow their Service, and only those that must (conntrack.go of Kubernetes' e2e tests). A client sends from the same
# port before and after; the old endpoint would still answer.
# tier: quick
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

# answers SENTENCE CLIENT ADDRESS PORT FROM SERVERS: one datagram from port FROM is answered at once by one of these servers.
answers() {
  for f in $FAMILIES; do
    answer=$(from "$2" /job/probe udp "$(at "$3" "$f")" "$4" 1 "$5" 2>&1)
    echo "${answer%% *}" > "/tmp/one.$5.$f"
    case " $6 " in
      *" ${answer%% *} "*) pass "$1 (IPv$f)" ;;
      *) fail "$1 (IPv$f): $6 expected, $answer seen" ;;
    esac
  done
}

# flows NODE FROM: prints the IDs of conntrack's entries with that client port.
flows() {
  for f in 4 6; do in_ns "$1" conntrack -L -f ipv$f -p udp --sport "$2" -o id 2> /dev/null; done |
    sed 's/.*\(src=[^ ]* dst=[^ ]* sport='"$2"'\).*\(id=.*\)/\1 \2/' | sort
}

start
serving outside outside 9000
step first <<'END'
cycle 1 80/udp@30080 : p1a
other 2 80/udp : p2a p3a
late 3 80/udp@30083 :
port 4 80/udp@30084 : p1a
local 5 type=NodePort etp=Local 80/udp@30085 : p1a
gone 6 80/udp : p2a
END
ask_all() { # WORD CYCLE PORT LOCAL
  answers "should be able to preserve UDP traffic when server pod cycles for a ClusterIP service: $1" p1c cluster:1 80 40001 "$2"
  answers "should be able to preserve UDP traffic when server pod cycles for a ClusterIP service and client is hostNetwork: $1" \
    node-1 cluster:1 80 40011 "$2"
  answers "should be able to preserve UDP traffic when server pod cycles for a NodePort service: $1" outside node-1 30080 40021 "$2"
  answers "should be able to preserve UDP traffic when server pod cycles for a NodePort service, from a pod: $1" p1c node-1 30080 40031 "$2"
  answers "should be able to preserve UDP traffic when the target port changes: $1" p1c cluster:4 80 40004 "$3"
  answers "should be able to preserve UDP traffic when the target port changes, NodePort: $1" outside node-1 30084 40024 "$3"
  answers "should be able to preserve UDP traffic when server pod cycles, externalTrafficPolicy=Local: $1" outside node-1 30085 40025 "$4"
}
ask_all before p1a p1a p1a
answers "another Service" p1c cluster:2 80 40002 "p2a p3a"
other4=$(cat /tmp/one.40002.4) other6=$(cat /tmp/one.40002.6)
answers "a flow that is no Service's" p1c outside 9000 40003 outside
answers "a flow from pod to pod" p1c p3b 8080 40005 p3b
t="should be able to preserve UDP traffic when initial unready endpoints get ready"
for f in $FAMILIES; do
  for who in p1c node-1; do
    from $who /job/probe udp "$(at cluster:3 "$f")" 80 1 40041 > /dev/null 2>&1
    same "$t: rejected before, from $who (IPv$f)" 7 $?
  done
  from outside /job/probe udp "$(at node-1 "$f")" 30083 1 40042 > /dev/null 2>&1
  same "$t: rejected before, NodePort (IPv$f)" 7 $?
done
answers "a Service that will go" p1c cluster:6 80 40006 p2a
before=$(for port in 40002 40003 40005; do flows node-1 $port; done)
check "conntrack has the flow of the other Service" test -n "$(flows node-1 40002)"

step second <<'END'
cycle 1 80/udp@30080 : p2a
other 2 80/udp : p2a p3a
late 3 80/udp@30083 : p1a
port 4 80/udp>8081@30084 : p1a
local 5 type=NodePort etp=Local 80/udp@30085 : p1b
END
same "conntrack's entries of the other Service, of the outside and between pods stay" \
  "$before" "$(for port in 40002 40003 40005; do flows node-1 $port; done)"
for port in 40001 40011 40021 40031 40004 40024 40025 40006; do
  same "conntrack's entry of the client at $port is gone" "" "$(flows node-1 $port)"
done
ask_all after p2a p1a-too p1b
answers "$t: answered after" p1c cluster:3 80 40041 p1a
answers "$t: answered after, from a node" node-1 cluster:3 80 40041 p1a
answers "$t: answered after, NodePort" outside node-1 30083 40042 p1a
FAMILIES=4
answers "another Service: its endpoint stays" p1c cluster:2 80 40002 "$other4"
FAMILIES=6
answers "another Service: its endpoint stays" p1c cluster:2 80 40002 "$other6"
FAMILIES="4 6"

for turn in 1 2 3; do
  step first
  ask_all "turn $turn" p1a p1a p1a
  step second
  ask_all "turn $turn and back" p2a p1a-too p1b
done

step last <<'END'
cycle 1 80/udp@30080 : p1b~ p2b
other 2 80/udp : p2a p3a
late 3 80/udp :
END
answers "the endpoint goes where another is terminating" p1c cluster:1 80 40001 p2b
for f in $FAMILIES; do
  from p1c /job/probe udp "$(at cluster:3 "$f")" 80 1 40041 > /dev/null 2>&1
  same "the last endpoint goes: rejected (IPv$f)" 7 $?
done
finish
