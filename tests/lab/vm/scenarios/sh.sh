#!/bin/sh
# `plan --format sh`, run by a shell on a fresh node, has the result of `sync`.
# tier: quick
# shellcheck source=SCRIPTDIR/../lab.sh
. /job/lab.sh

lab_up
api_up /job/cluster/recorded
kinglet node-1 sync > /dev/null 2>&1
same "sync exits 0" 0 $?
state node-1 > /results/sync.state
table=$(ipvs node-1)

lab_down
lab_up
kinglet node-1 plan --format sh > /results/plan.sh 2> /dev/null
same "plan exits 2" 2 $?
on node-1 sh -e /results/plan.sh > /tmp/printed 2>&1
same "the script exits 0" 0 $?
same "the script prints no error" "" "$(grep -v '^net\.[^ ]* = ' /tmp/printed)"
state node-1 > /results/sh.state
same "the IPVS table is the same" "$table" "$(ipvs node-1)"
same "all else is the same too" "$(cat /results/sync.state)" "$(cat /results/sh.state)"
kinglet node-1 plan > /tmp/plan 2> /dev/null
same "plan then has nothing to do" "0 " "$? $(grep -v '^!' /tmp/plan)"
finish
