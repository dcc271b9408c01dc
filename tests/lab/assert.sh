# shellcheck shell=sh
# shellcheck disable=SC2154  # API and its like are lab.sh's
# assert.sh: the assertions of all labs (sourced by vm/lab.sh and bgp/network.sh).

passed=0 failed=0
pass() { passed=$((passed + 1)); echo "  ok    $1"; }
fail() { failed=$((failed + 1)); echo "  FAIL  $1"; }

# same SENTENCE EXPECTED ACTUAL: both texts are equal.
same() {
  if [ "$2" = "$3" ]; then pass "$1"; return; fi
  fail "$1"
  echo "$2" > "${TMPDIR:-/tmp}/expected"; echo "$3" > "${TMPDIR:-/tmp}/actual"
  diff -U 2 "${TMPDIR:-/tmp}/expected" "${TMPDIR:-/tmp}/actual" | head -40 | sed 's/^/        /'
}

# check SENTENCE PROGRAM...: the program exits with 0.
check() {
  sentence=$1; shift
  if "$@" > "${TMPDIR:-/tmp}/output" 2>&1; then pass "$sentence"; return; fi
  fail "$sentence"; sed 's/^/        /' "${TMPDIR:-/tmp}/output"
}

# within SECONDS SENTENCE PROGRAM...: the program exits with 0 within this time.
within() {
  tries=$(($1 * 5)); sentence=$2; shift 2
  while [ $tries -gt 0 ]; do
    if "$@" > "${TMPDIR:-/tmp}/output" 2>&1; then pass "$sentence"; return; fi
    sleep 0.2; tries=$((tries - 1))
  done
  fail "$sentence"; sed 's/^/        /' "${TMPDIR:-/tmp}/output" | head -20
}

# settled NODE: a full pass would have no steps.
settled() { on "$1" /job/kinglet plan --master "$API" --hostname-override "$1"; }

finish() {
  echo "$passed passed, $failed failed"
  exit $((failed > 0))
}

# traced NODE COMMAND...: runs kinglet under strace, with the trace in /results/NODE.strace.
traced() {
  node=$1; shift
  # shellcheck disable=SC2086
  on "$node" strace -f -o "/results/$node.strace" \
    -e trace=sendto,sendmsg,sendmmsg,write,pwrite64,rename,renameat,renameat2,finit_module \
    /job/kinglet "$@" --master "$API" --hostname-override "$node" --snapshot= $FLAGS
}

# writes NODE: prints the traced calls that could change anything: netlink messages other than dumps (0x300), requests for the
# number of a family (0x10) and IPVS_CMD_GET_CONFIG; writes to other files than stdout and stderr; renames; loaded modules.
writes() {
  grep -E 'nlmsg_type|sendm|write.*\(([3-9]|[1-9][0-9]+),|rename|finit_module' "/results/$1.strace" |
    grep -Ev 'NLM_F_REQUEST\|(0x300|NLM_F_DUMP)|nlmsg_type=0x10 |"\\x0d\\x01\\x00\\x00"'
}

check_join() { # NODE
  kinglet "$1" plan > "/results/$1.plan" 2> /dev/null
  same "$1: plan exits 2 where there is all to do" 2 $?
  traced "$1" sync > "/results/$1.sync" 2> "/results/$1.err"
  same "$1: sync exits 0" 0 $?
  same "$1: sync takes the steps of plan" "$(grep -v '^!' "/results/$1.plan")" "$(cat "/results/$1.sync")"
  check "$1: strace saw it write" test "$(writes "$1" | wc -l)" -ge 5
}

ask() { # NAMESPACE ADDRESS PORT TIMES
  for _ in $(seq "$4"); do in_ns "$1" /job/probe http "$2" "$3" 2>&1; done
}
check_rotation() { # SENTENCE NAMESPACE ADDRESS CLIENT: web-0 and web-3 are on node-1, web-1 on node-2, web-2 on node-3
  ask "$2" "$3" 80 8 > /tmp/answers
  same "$1: four endpoints, each once a round" "web-0 web-1 web-2 web-3" \
    "$(head -4 /tmp/answers | cut -d' ' -f1 | sort | xargs)"
  same "$1: the second round is as the first" "$(head -4 /tmp/answers)" "$(tail -4 /tmp/answers)"
  same "$1: they see who asks" "$4" "$(cut -d' ' -f2 /tmp/answers | sort -u | xargs)"
}

# quiet NODE: a pass without steps prints nothing, writes nothing (strace), and the kernel reports no change: ip monitor for links,
# addresses and routes, nft monitor for the record of Services.
quiet() { # NODE
  state "$1" > /tmp/before
  in_ns "$1" ip -o monitor link address route rule > /tmp/monitor 2>&1 & ip_pid=$!
  in_ns "$1" nft monitor > /tmp/nft 2>&1 & nft_pid=$!
  sleep 1
  traced "$1" sync > /tmp/second 2> /tmp/errors
  same "$1: a second sync exits 0" 0 $?
  same "$1: a second sync has no steps" "" "$(cat /tmp/second)"
  sleep 1
  # A change of the test's own shows that the monitors listen.
  in_ns "$1" ip route add blackhole 198.51.100.255
  in_ns "$1" ip route del blackhole 198.51.100.255
  in_ns "$1" nft add table ip marker
  in_ns "$1" nft delete table ip marker
  sleep 1; kill $ip_pid $nft_pid
  check "$1: the monitors listened" sh -c "grep -q 198.51.100.255 /tmp/monitor && grep -q marker /tmp/nft"
  # A pod's port changes its state without kinglet.
  same "$1: the kernel reported no change in between" "" \
    "$(grep -v ': veth\|198.51.100.255' /tmp/monitor; grep -v '^#\|marker' /tmp/nft)"
  check "$1: strace saw it read" grep -q 'NLM_F_DUMP\|0x300' "/results/$1.strace"
  same "$1: all is as it was" "$(cat /tmp/before)" "$(state "$1")"
  same "$1: strace saw it write nothing" "" "$(writes "$1")"
}
