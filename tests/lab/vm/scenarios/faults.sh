#!/bin/sh
# An API server that answers with invalid data, or not at all: sync fails, and the kernel does not change.
# tier: quick
# shellcheck source=SCRIPTDIR/../lab.sh
. /job/lab.sh

lab_up
api_up /job/cluster/recorded
kinglet node-1 sync > /dev/null 2>&1
state node-1 > /tmp/before
objects /job/cluster/service-gone   # there would be something to do, were the API to answer well

check_fault() { # FAULT
  echo "$1" > $OBJECTS/faults.new; mv $OBJECTS/faults.new $OBJECTS/faults
  kinglet node-1 sync > /tmp/printed 2> /tmp/error
  same "$1: sync exits 1" 1 $?
  same "$1: it prints the reason once" 1 "$(grep -c '^kinglet: error: ' /tmp/error)"
  same "$1: it prints no step" "" "$(cat /tmp/printed)"
  same "$1: the kernel is as it was" "$(cat /tmp/before)" "$(state node-1)"
  echo "$1: $(grep error: /tmp/error)" >> /results/sentences
}
for list in nodes services endpointslices; do
  for fault in html cut=100 status=403 status=503 garbage empty; do check_fault "/$list:$fault"; done
done
check_fault /services:hang
rm $OBJECTS/faults
kill "$api"
kinglet node-1 sync > /tmp/printed 2>&1
same "no API server: sync exits 1" 1 $?
same "no API server: the kernel is as it was" "$(cat /tmp/before)" "$(state node-1)"
api_up /job/cluster/service-gone
kinglet node-1 sync > /dev/null 2>&1
same "the API is back: sync exits 0" 0 $?
same "the API is back: ipvsadm lists its Services" "$(cat /job/cluster/service-gone/node-1)" "$(ipvs node-1)"
finish
