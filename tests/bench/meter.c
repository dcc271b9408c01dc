// meter: measures the resources that a program uses, and the time that the kernel alone takes for the same netlink messages. A static program.
//
//   meter run PROGRAM ARGUMENT...  runs the program; prints on stderr `peak KIB`, `took NS`, `cpu NS` (user and system time) and, if a route
//                                  of protocol 17 was added in this network namespace, `first NS` from the start to the first such route
//   meter cpu PID                  prints the CPU time of the process until now, in nanoseconds
//   meter replay PROTOCOL TRACE    sends the netlink messages of PROTOCOL (NETLINK_ROUTE, ...) in a trace of `strace -f -e
//                                  trace=socket,sendto -e write=all` again; prints `replay NS BYTES REQUESTS REFUSED`, where NS is the
//                                  time until the kernel has answered
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KINGLET = 17, MOST = 1 << 20 };

static void need(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(2);
	}
}

static long long nanoseconds(clockid_t clock)
{
	struct timespec t;
	need(clock_gettime(clock, &t) == 0, "clock_gettime");
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int netlink(int protocol, int groups)
{
	struct sockaddr_nl us = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), room = 8 << 20;
	need(s >= 0 && bind(s, (void *)&us, sizeof us) == 0, "a netlink socket");
	setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
	setsockopt(s, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
	return s;
}

// Returns 1 if one of the messages reports a new route of kinglet.
static int has_kinglet_route(const char *in, int length)
{
	const struct nlmsghdr *m = (const void *)in;
	for (; NLMSG_OK(m, length); m = NLMSG_NEXT(m, length))
		if (m->nlmsg_type == RTM_NEWROUTE && ((const struct rtmsg *)NLMSG_DATA(m))->rtm_protocol == KINGLET)
			return 1;
	return 0;
}

static int run(char **command)
{
	struct rusage used = { 0 };
	int status, routes = netlink(NETLINK_ROUTE, RTMGRP_IPV4_ROUTE);
	long long begun = nanoseconds(CLOCK_MONOTONIC), first = 0;
	pid_t child = fork();
	if (child == 0) {
		execvp(*command, command);
		perror(*command);
		_exit(127);
	}
	need(child > 0, "fork");
	// Checks the child after each poll without a message, at least every millisecond, until the first route; then waits for its end.
	static char in[MOST];
	while (!first) {
		struct pollfd p = { routes, POLLIN, 0 };
		if (poll(&p, 1, 1) > 0) {
			ssize_t n = recv(routes, in, sizeof in, 0);
			if (n > 0 && has_kinglet_route(in, n))
				first = nanoseconds(CLOCK_MONOTONIC);
		} else if (wait4(child, &status, WNOHANG, &used) == child) {
			child = 0;
			break;
		}
	}
	close(routes);
	need(!child || wait4(child, &status, 0, &used) == child, "wait4");
	long long ended = nanoseconds(CLOCK_MONOTONIC);
	fprintf(stderr, "peak %ld\ntook %lld\ncpu %lld\n", used.ru_maxrss, ended - begun,
		((used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000);
	if (first)
		fprintf(stderr, "first %lld\n", first - begun);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int cpu(const char *pid)
{
	clockid_t clock;
	need(clock_getcpuclockid(atoi(pid), &clock) == 0, "clock_getcpuclockid");
	printf("%lld\n", nanoseconds(clock));
	return 0;
}

// The bytes of one sendto().
struct batch {
	int fd, length;
	char *bytes;
};

// Returns the last message of a batch that requests an ack, and adds the number of messages to *requests. Returns NULL if there is none.
// Dumps do not count as such, because they change nothing.
static const struct nlmsghdr *last_acknowledged(const struct batch *batch, int *requests)
{
	const struct nlmsghdr *m = (const void *)batch->bytes, *answered = NULL;
	for (int left = batch->length; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left), ++*requests)
		if (m->nlmsg_flags & NLM_F_ACK && (m->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
			answered = m;
	return answered;
}

// Sends the batch, and reads answers until the ack of `answered`. Returns the number of refused messages.
static int send_batch(int s, const struct batch *batch, const struct nlmsghdr *answered)
{
	static char in[MOST];
	int refused = 0;
	need(send(s, batch->bytes, batch->length, 0) == batch->length, "send");
	for (;;) {
		int n = recv(s, in, sizeof in, 0);
		need(n > 0, "recv");
		for (const struct nlmsghdr *m = (const void *)in; NLMSG_OK(m, n); m = NLMSG_NEXT(m, n)) {
			if (m->nlmsg_type != NLMSG_ERROR)
				continue;
			refused += ((const struct nlmsgerr *)NLMSG_DATA(m))->error != 0;
			if (m->nlmsg_seq == answered->nlmsg_seq)
				return refused;
		}
	}
}

static int replay(const char *protocol, const char *trace)
{
	static const char *const names[] = { [NETLINK_ROUTE] = "NETLINK_ROUTE", [NETLINK_NETFILTER] = "NETLINK_NETFILTER",
		[NETLINK_GENERIC] = "NETLINK_GENERIC" };
	static char line[1 << 16];
	static char ours[1024];
	struct batch *batches = NULL, *batch = NULL;
	int n = 0, which = -1, bytes = 0, requests = 0, refused = 0;
	long long took = 0;
	for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
		if (names[i] && !strcmp(names[i], protocol))
			which = i;
	FILE *file = fopen(trace, "r");
	need(which >= 0 && file, trace);
	while (fgets(line, sizeof line, file)) {
		char *call, *is;
		int fd;
		if (batch && !strncmp(line, " | ", 3)) { // a row of a dump: 16 bytes at most
			char *at = line + 3;
			strtol(at, &at, 16);
			if (batch->length % 4096 == 0)
				need((batch->bytes = realloc(batch->bytes, batch->length + 4096)) != NULL, "memory");
			for (int i = 0; i < 16 && at[0] == ' '; i++) {
				at += 1 + (i == 0 || i == 8);
				if (at[0] == ' ')
					break;
				batch->bytes[batch->length++] = strtol(at, &at, 16);
			}
		} else if ((call = strstr(line, "socket(AF_NETLINK")) && (is = strrchr(line, '='))) {
			fd = atoi(is + 1);
			if (fd >= 0 && fd < (int)sizeof ours)
				ours[fd] = strstr(call, protocol) != NULL;
		} else if ((call = strstr(line, "sendto("))) {
			fd = atoi(call + 7);
			batch = NULL;
			if (fd >= 0 && fd < (int)sizeof ours && ours[fd]) {
				need((batches = realloc(batches, (n + 1) * sizeof *batches)) != NULL, "memory");
				batches[n] = (struct batch){ fd, 0, NULL };
				batch = &batches[n++];
			}
		}
	}
	int s = netlink(which, 0);
	for (batch = batches; batch < batches + n; batch++) {
		int count = 0;
		const struct nlmsghdr *answered = last_acknowledged(batch, &count);
		if (!answered)
			continue;
		long long begun = nanoseconds(CLOCK_MONOTONIC);
		refused += send_batch(s, batch, answered);
		took += nanoseconds(CLOCK_MONOTONIC) - begun;
		bytes += batch->length;
		requests += count;
	}
	printf("replay %lld %d %d %d\n", took, bytes, requests, refused);
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	if (argc >= 3 && !strcmp(verb, "run"))
		return run(argv + 2);
	if (argc == 3 && !strcmp(verb, "cpu"))
		return cpu(argv[2]);
	if (argc == 4 && !strcmp(verb, "replay"))
		return replay(argv[2], argv[3]);
	fputs("meter run PROGRAM ARGUMENT... | cpu PID | replay PROTOCOL TRACE\n", stderr);
	return 2;
}
