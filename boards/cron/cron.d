# /etc/cron.d/kinglet, for Debian's cron
* * * * * root sleep $(($(od -An -N1 -tu1 /dev/urandom) / 5)); /usr/local/bin/kinglet sync --config /etc/kinglet.conf 2>&1 | logger -t kinglet
