// probe: the client and the server of the lab, in one static program.
//
//   probe serve NAME PORT            TCP (a little HTTP) and UDP, IPv4 and IPv6: answers "NAME CLIENT\n"
//   probe http ADDRESS PORT [SECONDS]  prints the answer; 0, or as curl: 7 refused or unreachable, 28 no answer
//   probe udp ADDRESS PORT [SECONDS [FROM]]  the same with one datagram (from port FROM)
//   probe sctp ADDRESS PORT [SECONDS]  as http, over SCTP (serve answers it where the kernel has SCTP)
//   probe sctp ADDRESS PORT [SECONDS]  as http, over SCTP (serve answers it if the kernel has SCTP)
//   probe load ADDRESS PORT RATE SECONDS  opens RATE connections a second; `N ok, M failed`, and why on stderr
//   probe many ADDRESS PORT SECONDS  one question after the other; `N M`: so many a second, and the median in microseconds
//   probe rss PROGRAM ARGUMENT...    runs it; `rss KIB`, its peak, on stderr
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { REFUSED = 7, SILENT = 28 };
enum { PATIENCE = 3000, HELD = 4096 }; // milliseconds for one connection under load, connections at a time

static void need(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(2);
	}
}

static int listener(int type, int protocol, int port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int one = 1, zero = 0, s = socket(AF_INET6, type, protocol);
	if (s < 0 && protocol == IPPROTO_SCTP)
		return s; // poll() passes over it
	need(s >= 0, "socket");
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
	need(bind(s, (void *)&any, sizeof any) == 0, "bind");
	need(type != SOCK_STREAM || listen(s, 512) == 0, "listen");
	return s;
}

static int answer(char *text, size_t size, const char *name, struct sockaddr_in6 *client)
{
	char address[INET6_ADDRSTRLEN];
	inet_ntop(AF_INET6, &client->sin6_addr, address, sizeof address);
	return snprintf(text, size, "%s %s\n", name, strncmp(address, "::ffff:", 7) ? address : address + 7);
}

// One question on a connection; 0 once its client has closed it. Who asks `HOLD` may ask again.
static int answered(int s, const char *name)
{
	struct sockaddr_in6 client;
	socklen_t size = sizeof client;
	char text[512], in[2048];
	ssize_t got = read(s, in, sizeof in);
	if (got <= 0 || getpeername(s, (void *)&client, &size))
		return 0;
	int n = answer(text, sizeof text, name, &client);
	if (got >= 4 && !memcmp(in, "HOLD", 4))
		return write(s, text, n) == n;
	dprintf(s, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, text);
	shutdown(s, SHUT_WR);
	return 1;
}

// All in one loop, so that a slow client keeps no other waiting.
static void serve(const char *name, int port)
{
	static struct pollfd p[HELD] = { { 0, POLLIN, 0 }, { 0, POLLIN, 0 }, { 0, POLLIN, 0 } };
	nfds_t held = 3;
	p[0].fd = listener(SOCK_STREAM, 0, port);
	p[1].fd = listener(SOCK_STREAM, IPPROTO_SCTP, port);
	p[2].fd = listener(SOCK_DGRAM, 0, port);
	for (;;) {
		struct sockaddr_in6 client;
		socklen_t size = sizeof client;
		char text[512], in[2048];
		poll(p, held, -1);
		if (p[2].revents && recvfrom(p[2].fd, in, sizeof in, 0, (void *)&client, &size) >= 0)
			sendto(p[2].fd, text, answer(text, sizeof text, name, &client), 0, (void *)&client, size);
		for (nfds_t i = held; i-- > 3;) {
			if (!p[i].revents || answered(p[i].fd, name))
				continue;
			close(p[i].fd);
			p[i] = p[--held];
		}
		for (int i = 0; i < 2; i++) {
			int s = p[i].revents && held < HELD ? accept(p[i].fd, NULL, NULL) : -1;
			if (s >= 0)
				p[held++] = (struct pollfd){ s, POLLIN, 0 };
		}
	}
}

static int failed(void)
{
	int code = errno;
	fprintf(stderr, "probe: %s\n", strerror(code));
	return code == EAGAIN || code == EINPROGRESS || code == ETIMEDOUT ? SILENT : REFUSED;
}

struct at {
	struct sockaddr_storage address;
	socklen_t size;
};

static struct at at(const char *address, const char *port)
{
	struct at to = { .size = sizeof(struct sockaddr_in) };
	struct sockaddr_in *to4 = (void *)&to.address;
	struct sockaddr_in6 *to6 = (void *)&to.address;
	if (inet_pton(AF_INET, address, &to4->sin_addr)) {
		to4->sin_family = AF_INET;
		to4->sin_port = htons(atoi(port));
		return to;
	}
	if (!inet_pton(AF_INET6, address, &to6->sin6_addr)) {
		fprintf(stderr, "probe: %s is not an address\n", address);
		exit(2);
	}
	to.size = sizeof *to6;
	to6->sin6_family = AF_INET6;
	to6->sin6_port = htons(atoi(port));
	return to;
}

static int connected(struct at *to, int type, int protocol, int seconds, int from)
{
	struct timeval patience = { seconds, 0 };
	struct at any = at(to->address.ss_family == AF_INET ? "0.0.0.0" : "::", "0");
	int one = 1, s = socket(to->address.ss_family, type, protocol);
	need(s >= 0, "socket");
	((struct sockaddr_in *)&any.address)->sin_port = htons(from); // the same place in both families
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	need(!from || bind(s, (void *)&any.address, any.size) == 0, "bind");
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); // connect() waits as long
	return connect(s, (void *)&to->address, to->size) ? -1 : s;
}

static int ask(int type, int protocol, char **to, int seconds, int from)
{
	struct at there = at(to[0], to[1]);
	char in[4096], *body = in;
	ssize_t n, length = 0;
	int s = connected(&there, type, protocol, seconds, from);
	// EPERM: a rule of this very host stopped the datagram; whether it also refused it, read() tells.
	if (s < 0 || (write(s, "GET / HTTP/1.0\r\n\r\n", 18) < 0 && errno != EPERM))
		return failed();
	while ((n = read(s, in + length, sizeof in - 1 - length)) > 0 && type == SOCK_STREAM)
		length += n;
	if (n < 0)
		return failed();
	in[length + n] = 0;
	if (type == SOCK_STREAM && (body = strstr(in, "\r\n\r\n")))
		body += 4;
	fputs(body ? body : "", stdout);
	return 0;
}

static int hold(char **to, int seconds)
{
	struct at there = at(to[0], to[1]);
	char in[512] = "";
	ssize_t n = 0;
	int answers = 0, s = connected(&there, SOCK_STREAM, 0, 3, 0);
	for (; s >= 0 && answers <= seconds; answers++) {
		if (answers)
			sleep(1);
		if (write(s, "HOLD", 4) < 0 || (n = read(s, in, sizeof in - 1)) <= 0)
			break;
		in[n] = 0;
	}
	int error = s >= 0 && n == 0 ? ECONNRESET : errno;
	printf("%d answers of %s", answers, *in ? in : "nobody\n");
	errno = error;
	return answers > seconds ? 0 : failed();
}

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Each connection is opened when it is due, however the others fare; its place in `p` is its state:
// waiting to write (POLLOUT) until it asked, then to read until an answer and its end have come.
static int load(char **to, int rate, int seconds)
{
	static struct pollfd p[HELD];
	static long since[HELD];
	static char got[HELD];
	struct at there = at(to[0], to[1]);
	long start = now(), opened = 0, ok = 0, lost = 0, all = (long)rate * seconds;
	int held = 0;
	char in[4096];
	while (opened < all || held) {
		for (; opened < all && held < HELD && (now() - start) * rate >= opened * 1000; opened++) {
			int s = socket(there.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
			need(s >= 0, "socket");
			if (connect(s, (void *)&there.address, there.size) && errno != EINPROGRESS) {
				fprintf(stderr, "%ld ms: connect: %s\n", now() - start, strerror(errno));
				lost++;
				close(s);
				continue;
			}
			p[held] = (struct pollfd){ s, POLLOUT, 0 };
			got[held] = 0;
			since[held++] = now();
		}
		poll(p, held, opened < all ? 2 : 100);
		for (int i = 0; i < held; i++) {
			int error = 0, done = 0;
			if (!p[i].revents && now() - since[i] < PATIENCE)
				continue;
			if (!p[i].revents) {
				error = ETIMEDOUT;
			} else if (p[i].events == POLLOUT) {
				socklen_t size = sizeof error;
				getsockopt(p[i].fd, SOL_SOCKET, SO_ERROR, &error, &size);
				if (!error && write(p[i].fd, "GET / HTTP/1.0\r\n\r\n", 18) < 0)
					error = errno;
				if (!error)
					p[i].events = POLLIN;
			} else {
				ssize_t n = read(p[i].fd, in, sizeof in);
				if (n > 0)
					got[i] = 1;
				else if (n == 0)
					done = got[i], error = got[i] ? 0 : ECONNRESET;
				else
					error = errno;
			}
			if (!error && !done)
				continue;
			if (error)
				fprintf(stderr, "%ld ms: %s: %s\n", since[i] - start,
					p[i].events == POLLIN ? "answer" : "connect", strerror(error));
			ok += done;
			lost += !done;
			close(p[i].fd);
			held--;
			p[i] = p[held];
			since[i] = since[held];
			got[i] = got[held];
			i--;
		}
	}
	printf("%ld ok, %ld failed\n", ok, lost);
	return lost ? REFUSED : 0;
}

static int rss(char **command)
{
	struct rusage used;
	int status;
	pid_t child = fork();
	if (child == 0) {
		execvp(*command, command);
		perror(*command);
		_exit(127);
	}
	need(child > 0 && wait4(child, &status, 0, &used) == child, "wait4");
	fprintf(stderr, "rss %ld\n", used.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int less(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static int many(char **to, int seconds)
{
	enum { MOST = 200000 };
	static int took[MOST];
	struct at there = at(to[0], to[1]);
	struct timespec begun, ended;
	long all = 0, n = 0;
	while (all < seconds * 1000000L && n < MOST) {
		char in[4096];
		ssize_t got;
		clock_gettime(CLOCK_MONOTONIC, &begun);
		int s = connected(&there, SOCK_STREAM, 0, 3, 0);
		if (s < 0 || write(s, "GET / HTTP/1.0\r\n\r\n", 18) < 0)
			return failed();
		while ((got = read(s, in, sizeof in)) > 0)
			;
		if (got < 0)
			return failed();
		close(s);
		clock_gettime(CLOCK_MONOTONIC, &ended);
		took[n] = (ended.tv_sec - begun.tv_sec) * 1000000 + (ended.tv_nsec - begun.tv_nsec) / 1000;
		all += took[n++];
	}
	qsort(took, n, sizeof *took, less);
	printf("%ld %d\n", n * 1000000 / all, took[n / 2]);
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit files = { HELD + 16, HELD + 16 };
	setrlimit(RLIMIT_NOFILE, &files); // what it can: without it there are fewer connections
	signal(SIGPIPE, SIG_IGN);
	const char *verb = argc > 1 ? argv[1] : "";
	if (argc == 4 && !strcmp(verb, "serve"))
		serve(argv[2], atoi(argv[3]));
	int seconds = argc > 4 ? atoi(argv[4]) : 3;
	if (argc >= 4 && !strcmp(verb, "http"))
		return ask(SOCK_STREAM, 0, argv + 2, seconds, 0);
	if (argc >= 4 && !strcmp(verb, "sctp"))
		return ask(SOCK_STREAM, IPPROTO_SCTP, argv + 2, seconds, 0);
	if (argc >= 4 && !strcmp(verb, "udp"))
		return ask(SOCK_DGRAM, 0, argv + 2, seconds, argc > 5 ? atoi(argv[5]) : 0);
	if (argc == 5 && !strcmp(verb, "hold"))
		return hold(argv + 2, seconds);
	if (argc == 6 && !strcmp(verb, "load"))
		return load(argv + 2, seconds, atoi(argv[5]));
	if (argc == 5 && !strcmp(verb, "many"))
		return many(argv + 2, seconds);
	if (argc >= 3 && !strcmp(verb, "rss"))
		return rss(argv + 2);
	fputs("probe serve NAME PORT | http|udp|sctp ADDRESS PORT [SECONDS] | hold ADDRESS PORT SECONDS | "
	      "load ADDRESS PORT RATE SECONDS | many ADDRESS PORT SECONDS | rss PROGRAM ARGUMENT...\n", stderr);
	return 2;
}
