# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034  # API and its like are lab.sh's, and some of these the scenarios'
# steps.sh: how the lab's machine sees and drives the board beside it (sourced; POSIX sh, in the lab).

BOARD=192.0.2.11
RELEASE=$(cat /job/release)

# board COMMAND: in the board's shell; its output and its exit code.
board() {
  printf '%s\n' "{ $*" "} 2>&1" "printf '\n@@%s\n' \$?; exit" |
    timeout "${patience:-60}" busybox nc $BOARD 2323 > /tmp/said 2>/dev/null
  sed '/^@@[0-9]*$/d' /tmp/said | sed '${/^$/d}'
  return "$(sed -n 's/^@@\([0-9]*\)$/\1/p' /tmp/said | grep . || echo 255)"
}

# within SECONDS SENTENCE PROGRAM...; a machine whose time is counted in instructions has three times as long.
within() {
  case $arch in armel) slow=3 ;; *) slow=1 ;; esac
  until=$(($(date +%s) + $1 * slow)) sentence=$2; shift 2
  while [ "$(date +%s)" -le "$until" ]; do
    if "$@" > /tmp/output 2>&1; then pass "$sentence"; return; fi
    sleep 0.5
  done
  fail "$sentence"; head -20 /tmp/output | sed 's/^/        /'
  return 1
}

up() { [ "$(patience=5 board cat /proc/sys/kernel/random/boot_id | grep -v "^${boot:-none}$" | wc -c)" -gt 30 ]; }

# booted SENTENCE: the board has come up (again); else nothing that follows could say anything.
booted() {
  within 120 "$1" up || finish
  boot=$(board cat /proc/sys/kernel/random/boot_id)
}

# next [-m MIB] [KERNEL-ARGUMENT...]: the board restarts so, in an instant: nothing is shut down.
next() {
  board "sync; echo '@@next $*' > /dev/console; (sleep 1; reboot -f) > /dev/null 2>&1 &" > /dev/null
}

# The init of the board starts the daemon, the script that starts the daemon, crond, or nothing: from its next boot on, or from
# `kill -HUP 1` on.
starts() {
  board "grep -v 'kinglet\|crond' /etc/inittab > /tmp/inittab" > /dev/null
  case $1 in
    daemon) board "cat /tmp/inittab /test/inittab.kinglet > /etc/inittab" ;;
    script) board "cp /tmp/inittab /etc/inittab; echo '::once:/etc/init.d/S60kinglet start' >> /etc/inittab" ;;
    crond) board "cp /tmp/inittab /etc/inittab; echo '::respawn:/bin/crond -f -L /dev/null' >> /etc/inittab
      cp /test/crontab /var/spool/cron/crontabs/root" ;;
    nothing) board "cp /tmp/inittab /etc/inittab" ;;
  esac
}

# clocked SENTENCE: when the first route and the first answer came.
answered() { board cat /run/times | grep -q '^answer'; }
clocked() {
  within "${patience:-60}" "$1: a Service answers" answered &&
    board cat /run/times | xargs | sed "s/^/  time  $1: seconds after the kernel's start: /"
}

# table: IPVS's, as lab.sh's `ipvs` prints it.
table() { board /test/ipvsadm -Ln | entries; }
is_table() { table > /tmp/actual; diff -U 0 "/job/cluster/$1/node-1" /tmp/actual; }

# peak PROGRAM: VmHWM of what runs by that name, in KiB.
peak() { board "sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' /proc/\$(pidof $1 | cut -d' ' -f1)/status"; }
