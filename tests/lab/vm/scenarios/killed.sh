#!/bin/sh
# A daemon is killed 200 times at varying moments while endpoints come and go: no unchanged route or Service is missing for a moment.
# tier: long
# time: virtual
# shellcheck source=SCRIPTDIR/../proxy.sh
. /job/proxy.sh

start
sysctl -qw net.netfilter.nf_conntrack_max=262144  # the machine is small, the load is not
objects /job/steps/proxy/in
for node in $NODES; do daemon "$node"; done
for node in $NODES; do within 15 "$node is right" on "$node" /job/kinglet status; done
killed 200
finish
