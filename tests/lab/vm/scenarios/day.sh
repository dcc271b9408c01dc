#!/bin/sh
# A day of a small cluster: endpoints that come and go, an API server that restarts, is away for an hour and comes back, and a
# clock that jumps. The daemon uses no more memory at the end than after an hour.
# tier: long
# time: virtual (a minute in which nothing happens costs nothing)
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

text odd <<'END'
web 1 80@30080 : p1a p2a p3a
dns 2 53/udp : p1b p3b
api 3 443 external=33 : p2b
db 4 5432 affinity=600 : p1c
ext 5 80 external=35 etp=Local type=LoadBalancer health=32335 : p1b p2b
aaa 6 80 : p1a
bbb 7 80 : p1a p2a
ccc 8 80 : p3a
END
text even <<'END'
web 1 80@30080 : p1a p2a
dns 2 53/udp : p3b
api 3 443 external=33 : p2b p3b
db 4 5432 affinity=600 : p1c
ext 5 80 external=35 etp=Local type=LoadBalancer health=32335 : p2b
aaa 6 80 : p1a~ p2b
ccc 8 80 : p3a p3b
ddd 9 80 : p3a
END

status_field() { sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$daemon/status"; }
resources() { echo "rss $(status_field VmRSS) threads $(status_field Threads) files $(find "/proc/$daemon/fd" -type l | wc -l) own $(status_field RssAnon) mapped $(status_field VmData)"; }
threads_and_files() { echo "$1" | sed 's/^rss [0-9]* //; s/ own .*//'; }  # these must not grow
# change_for_hours N: N hours with a change every two and a half minutes.
change_for_hours() {
  changes=$(($1 * 12))
  while [ $changes -gt 0 ]; do
    objects "$(folder odd)"; sleep 150
    objects "$(folder even)"; sleep 150
    changes=$((changes - 1))
  done
}
start_server() { api_start --tick 1000; }  # checks its files once a second; the lab's own checks them 200 times

start
kill "${api:?}"; wait "$api" 2> /dev/null
objects "$(folder even)"
start_server
ip netns exec node-1 unshare -m /bin/sh /run/lab/on node-1 /job/kinglet run --master "$API" --hostname-override node-1 \
  --run-firewall=false --metrics-port 9100 > /results/daemon 2>&1 & daemon=$!
within 10 "it starts" settled node-1
change_for_hours 1
first=$(resources)
echo "  after an hour: $first"
change_for_hours 5
echo "  after six: $(resources)"

kill "${api:?}"; wait "$api" 2> /dev/null
sleep 1800
served "half an hour without the API" p1c cluster:1 80 "p1a p2a" p1c
on node-1 /job/kinglet status > /results/status; code=$?
same "status reports that this node may not be right" 1 $code
check "and since when" grep -q "no data from the API about .* for 30 min" /results/status
ip -n node-1 route del 10.244.1.0/24
within 2 "a removed route is restored meanwhile" sh -c 'ip -n node-1 route | grep -q "^10.244.1.0/24"'
sleep 1800
objects "$(folder odd)"
start_server
right() { settled node-1 && on node-1 /job/kinglet status; }  # each kind finds out by itself
within 60 "the API is back after an hour: within two back-off periods the change is applied, and status reports no problem" right
echo "  after that: $(resources)"

for jump in 4102444800 200000 1800000000; do  # 2100, 1970 (a clock can not be set before the boot), and about now
  date -s "@$jump" > /dev/null
  objects "$(folder even)"
  sleep 1; within 65 "the clock jumps to $(date +%Y), an event is there all the same" settled node-1
  objects "$(folder odd)"
  change_for_hours 1
done
seen=$(resources)
echo "  after each fault: $seen"
for _ in 1 2 3 4 5 6; do
  kill "$api"; wait "$api" 2> /dev/null
  objects "$(folder even)"; sleep 5
  start_server; sleep 595
done
within 60 "a server that was started anew six times" settled node-1
change_for_hours 14
last=$(resources)
echo "  after a day: $last"
within 10 "a pass has no steps at the end of the day" settled node-1
served "and served" p1c cluster:1 80 "p1a p2a" p1c
same "threads and open files are as many as after an hour" "$(threads_and_files "$first")" "$(threads_and_files "$last")"
# A fault may touch mapped memory for the first time: about 60 KiB, without a call that maps more.
not_grown() { echo "$1 $2" | awk -v at="$3" -v by="$4" '{ exit !($(10 + at) <= $at * (1 + by / 100)) }'; }
check "the memory that it has asked for is that of the first hour (within 1 %)" not_grown "$first" "$last" 10 1
check "what it takes of it is flat once each fault was there (within 2 %)" not_grown "$seen" "$last" 2 2
check "and is that of the first hour within 4 %" not_grown "$first" "$last" 2 4
kill $daemon; wait $daemon
same "it exits with 0" 0 $?
finish
