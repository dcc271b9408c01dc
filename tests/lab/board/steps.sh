# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034  # API and its like are lab.sh's, and some of these the scenarios'
# steps.sh: controls the board from the lab's machine (sourced; POSIX sh, in the lab).

BOARD=192.0.2.11
RELEASE=$(cat /job/release)

# board COMMAND: runs a command in the board's shell; prints its output and returns its exit code.
board() {
  printf '%s\n' "{ $*" "} 2>&1" "printf '\n@@%s\n' \$?; exit" |
    timeout "${patience:-60}" busybox nc $BOARD 2323 > /tmp/session 2>/dev/null
  sed '/^@@[0-9]*$/d' /tmp/session | sed '${/^$/d}'
  return "$(sed -n 's/^@@\([0-9]*\)$/\1/p' /tmp/session | grep . || echo 255)"
}

# within SECONDS SENTENCE PROGRAM...: as in assert.sh; three times as long if the board's time is counted in instructions.
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

# booted SENTENCE: the board has booted (again). The test ends if it has not.
booted() {
  within 120 "$1" up || finish
  boot=$(board cat /proc/sys/kernel/random/boot_id)
}

# restart_board [-m MIB] [KERNEL-ARGUMENT...]: restarts the board at once, without a shutdown.
restart_board() {
  board "sync; echo '@@next $*' > /dev/console; (sleep 1; reboot -f) > /dev/null 2>&1 &" > /dev/null
}

# start_at_boot daemon|script|crond|nothing: sets the program that the board's init starts at its next boot, or at `kill -HUP 1`:
# the daemon, the script that starts the daemon, crond, or nothing.
start_at_boot() {
  board "grep -v 'kinglet\|crond' /etc/inittab > /tmp/inittab" > /dev/null
  case $1 in
    daemon) board "cat /tmp/inittab /test/inittab.kinglet > /etc/inittab" ;;
    script) board "cp /tmp/inittab /etc/inittab; echo '::once:/etc/init.d/S60kinglet start' >> /etc/inittab" ;;
    crond) board "cp /tmp/inittab /etc/inittab; echo '::respawn:/bin/crond -f -L /dev/null' >> /etc/inittab
      cp /test/crontab /var/spool/cron/crontabs/root" ;;
    nothing) board "cp /tmp/inittab /etc/inittab" ;;
  esac
}

# print_times SENTENCE: prints the times of the first route and of the first answer.
answered() { board cat /run/times | grep -q '^answer'; }
print_times() {
  within "${patience:-60}" "$1: a Service answers" answered &&
    board cat /run/times | xargs | sed "s/^/  time  $1: seconds after the kernel's start: /"
}

# table: prints the board's IPVS table as `ipvs` of lab.sh does.
table() { board /test/ipvsadm -Ln | entries; }
is_table() { table > /tmp/actual; diff -U 0 "/job/cluster/$1/node-1" /tmp/actual; }

# peak PROGRAM: prints VmHWM of a program, in KiB.
peak() { board "sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' /proc/\$(pidof $1 | cut -d' ' -f1)/status"; }
