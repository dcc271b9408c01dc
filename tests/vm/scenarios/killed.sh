#!/bin/sh
# A daemon is killed 200 times, each time at another moment, while endpoints come and go: neither a route nor a Service that
# stays is missing for a moment.
# It runs in virtual time: how busy the host is makes no difference to it.
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
sysctl -qw net.netfilter.nf_conntrack_max=262144  # the machine is small, the load is not
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
objects "$(folder in)"
for node in $NODES; do daemon "$node"; done
for node in $NODES; do within 15 "$node is right" on "$node" /job/kinglet status; done
killed 200
finish
