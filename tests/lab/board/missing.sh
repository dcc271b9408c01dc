# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034,SC2016  # arch is scenario.sh's, boot steps.sh's, and $ the board's
# missing.sh: a board without a kernel option, a writable disk, the time, or enough memory (sourced by scenario.sh).

# ---- a kernel option ----

# check_prints SENTENCE CODE [LINE]: check prints this line and the one that every board here has, and no other problem.
CLOCK="warn     the clock was never set, so certificates are not valid yet: run NTP first"
check_prints() {
  board kinglet check > /tmp/lines; code=$?
  same "$1: check reports it, and nothing else" "${3:+$3
}$CLOCK" "$(grep -v '^ok ' /tmp/lines)"
  same "$1: check exits $2" "$2" $code
}

# check_without MODULE VERDICT TEXT: runs check without the file of this module.
check_without() {
  file=$(board "find /lib/modules -name $1.ko")
  board "mv $file /run/" > /dev/null
  case $2 in missing) code=1 ;; *) code=0 ;; esac
  check_prints "without $1" $code "$(printf '%-8s' "$2") $1 ($3: not in this kernel nor in /lib/modules/$RELEASE; \
install the kernel's modules, or build with it"
  board "mv /run/$1.ko $file" > /dev/null
}

# tier: long
part_checks() {
  start_at_boot nothing > /dev/null
  restart_board ""; booted "the board restarts, and nothing starts kinglet"
  same "this kernel does not show its configuration" "" "$(board "ls /proc/config.gz /boot 2> /dev/null")"
  same "and no module is loaded by a name" "" "$(board 'for f in /*/modprobe /usr/*/modprobe; do test -e $f && echo $f; done')"
  board kinglet check > /results/check
  check_prints "with all that Debian's kernel has" 0
  check_without ip_vs missing "CONFIG_IP_VS), Services"
  check_without ip_vs_rr missing "CONFIG_IP_VS_RR), round robin"
  check_without dummy missing "CONFIG_DUMMY), the addresses of Services"
  check_without veth missing "CONFIG_VETH), the pods' links"
  check_without nf_tables missing "CONFIG_NF_TABLES), masquerading and the guard"
  check_without nft_masq missing "CONFIG_NFT_MASQ), masquerading"
  check_without br_netfilter warn "CONFIG_BRIDGE_NETFILTER), source addresses from pod to pod on one node"
  check_without nf_conntrack_netlink warn "CONFIG_NF_CT_NETLINK), removal of UDP flows to endpoints that are gone"
  board "lsmod" > /tmp/modules
  same "check loaded nothing" "" "$(grep -E '^(ip_vs|dummy|nf_tables|bridge) ' /tmp/modules)"
  start_at_boot daemon > /dev/null
  restart_board ipv6.disable=1; booted "a kernel that was started without IPv6"
  print_times "without IPv6"
  check_prints "without IPv6" 0
  within 10 "without IPv6: IPVS has exactly the Services" is_table recorded
  within 10 "without IPv6: status reports that the node is right" board kinglet status
}

# ---- a disk that can be written to, the time ----

kubeconfig() {
  cat <<END
{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"k","cluster":{"server":"https://192.0.2.254:8443","tls-server-name":"localhost",
"certificate-authority-data":"$(base64 < /job/ca.crt | tr -d '\n')"}}],
"users":[{"name":"u","user":{"token":"secret"}}],
"contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}]}
END
}
kinglet_log() { board "grep kinglet: /run/messages"; }

# tier: long
part_readonly() {
  board "rm -rf /var/lib/kinglet" > /dev/null
  start_at_boot script > /dev/null
  restart_board ro; booted "the board's root is read-only, and its init runs scripts"
  same "nothing can be written to it" 1 "$(board "touch /etc/new" > /dev/null; echo $?)"
  print_times "read-only"
  within 10 "read-only: IPVS has exactly the Services" is_table recorded
  within 10 "read-only: status reports that the node is right" board kinglet status
  # A daemon writes its first snapshot ten seconds after its start.
  snapshot_warned() { kinglet_log > /results/messages.readonly; grep 'warning: .*snapshot' /results/messages.readonly; }
  within 20 "read-only: the missing snapshot is reported" snapshot_warned

  same "read-only: the script reports that it runs" "running ($(board pidof kinglet))" "$(board /etc/init.d/S60kinglet status)"
  start_at_boot daemon > /dev/null
  restart_board ""; booted "it can be written to again"
}

# tier: long
part_clock() {
  start_at_boot daemon > /dev/null
  /job/apiserver --listen 0.0.0.0:8443 --objects "$OBJECTS" --cert /job/server.crt --key /job/server.key --token secret \
    --log /results/tls.log > /tmp/tls 2>&1 &
  board "cat > /etc/kubeconfig <<'END'
$(kubeconfig)
END
    cp /etc/kinglet.conf /etc/kinglet.conf.old
    sed -i 's|^master = .*|kubeconfig = /etc/kubeconfig|' /etc/kinglet.conf; rm -rf /var/lib/kinglet" > /dev/null
  restart_board ""; booted "the API server speaks TLS, and the clock of the board is not set"
  same "it is in 1970" 1970 "$(board date +%Y)"
  clock_reported() { kinglet_log | grep -q 'not valid yet.*is the clock of this board right'; }
  within 40 "the daemon reports that the clock may be wrong" clock_reported
  pid=$(board pidof kinglet)
  sleep 30
  same "and waits" "$pid" "$(board pidof kinglet)"
  same "nothing was made meanwhile" "" "$(board /test/ip route show proto 17)"
  board kinglet plan > /tmp/plan
  same "a plan ends, with 1" 1 $?
  check "and reports the same" grep 'is the clock of this board right' /tmp/plan
  board "date -s '$(date '+%Y-%m-%d %H:%M:%S')'" > /dev/null
  set_at=$(date +%s)
  within 35 "the time comes, and it goes on within its back-off" board kinglet status
  echo "  time  it took $(($(date +%s) - set_at)) s"
  same "the same process" "$pid" "$(board pidof kinglet)"
  kinglet_log > /results/messages.clock
  board "mv /etc/kinglet.conf.old /etc/kinglet.conf; rm -rf /var/lib/kinglet" > /dev/null
}

# ---- memory ----

# tier: long
part_small() {
  least='' sizes="128 96 80 64 56 48 40 32"
  start_at_boot daemon > /dev/null
  for size in $sizes; do
    # QEMU gives this board 512 MiB in any case, and puts the initial RAM disk at 128 MiB.
    case $arch in armel) restart_board "mem=$((size - 2))M mem=2M@128M try=$size" ;; *) restart_board "-m $size try=$size" ;; esac
    within 180 "the board restarts with $size MiB, or as before" up || break
    boot=$(board cat /proc/sys/kernel/random/boot_id)
    board "grep -q try=$size /proc/cmdline" || { echo "  $size MiB is too little for this kernel"; break; }
    if ! within 60 "$size MiB: a Service answers" answered; then break; fi
    least=$size
    board free -k | sed 's/^/        /'
    board cat /run/times | xargs | sed "s/^/  time  $size MiB: /"
  done
  echo "  least memory in which a Service answered: ${least:-none} MiB"
  check "128 MiB is enough" test "${least:-999}" -le 128
}
