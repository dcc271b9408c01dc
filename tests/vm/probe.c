// probe: what answers and what asks in the lab, in one static program without options to learn.
//
//   probe serve NAME PORT            TCP (a little HTTP) and UDP, IPv4 and IPv6: answers "NAME CLIENT\n"
//   probe http ADDRESS PORT [SECONDS]  prints the answer; 0, or as curl: 7 refused or unreachable, 28 no answer
//   probe udp ADDRESS PORT [SECONDS]   the same with one datagram
//   probe rss PROGRAM ARGUMENT...    runs it; `rss KIB`, its peak, on stderr
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REFUSED = 7, SILENT = 28 };

static void need(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(2);
	}
}

static int listener(int type, int port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int one = 1, zero = 0, s = socket(AF_INET6, type, 0);
	need(s >= 0, "socket");
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
	need(bind(s, (void *)&any, sizeof any) == 0, "bind");
	need(type != SOCK_STREAM || listen(s, 64) == 0, "listen");
	return s;
}

static int answer(char *text, size_t size, const char *name, struct sockaddr_in6 *client)
{
	char address[INET6_ADDRSTRLEN];
	inet_ntop(AF_INET6, &client->sin6_addr, address, sizeof address);
	return snprintf(text, size, "%s %s\n", name, strncmp(address, "::ffff:", 7) ? address : address + 7);
}

static void serve(const char *name, int port)
{
	struct pollfd p[2] = { { listener(SOCK_STREAM, port), POLLIN, 0 }, { listener(SOCK_DGRAM, port), POLLIN, 0 } };
	struct timeval patience = { 2, 0 };
	char text[512], in[2048];
	for (;;) {
		struct sockaddr_in6 client;
		socklen_t size = sizeof client;
		poll(p, 2, -1);
		if (p[1].revents & POLLIN && recvfrom(p[1].fd, in, sizeof in, 0, (void *)&client, &size) >= 0)
			sendto(p[1].fd, text, answer(text, sizeof text, name, &client), 0, (void *)&client, size);
		if (!(p[0].revents & POLLIN))
			continue;
		size = sizeof client;
		int s = accept(p[0].fd, (void *)&client, &size);
		if (s < 0)
			continue;
		setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		if (read(s, in, sizeof in) > 0) {
			int n = answer(text, sizeof text, name, &client);
			dprintf(s, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, text);
		}
		shutdown(s, SHUT_WR);
		while (read(s, in, sizeof in) > 0)
			;
		close(s);
	}
}

static int failed(void)
{
	int code = errno;
	fprintf(stderr, "probe: %s\n", strerror(code));
	return code == EAGAIN || code == EINPROGRESS || code == ETIMEDOUT ? SILENT : REFUSED;
}

static int ask(int type, const char *address, const char *port, int seconds)
{
	struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_port = to4.sin_port };
	struct timeval patience = { seconds, 0 };
	char in[4096], *body = in;
	ssize_t n, length = 0;
	int four = inet_pton(AF_INET, address, &to4.sin_addr);
	if (!four && !inet_pton(AF_INET6, address, &to6.sin6_addr)) {
		fprintf(stderr, "probe: %s is not an address\n", address);
		return 2;
	}
	int s = socket(four ? AF_INET : AF_INET6, type, 0);
	need(s >= 0, "socket");
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); // connect() waits as long
	if ((four ? connect(s, (void *)&to4, sizeof to4) : connect(s, (void *)&to6, sizeof to6)) ||
	    write(s, "GET / HTTP/1.0\r\n\r\n", 18) < 0)
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

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	const char *verb = argc > 1 ? argv[1] : "";
	if (argc == 4 && !strcmp(verb, "serve"))
		serve(argv[2], atoi(argv[3]));
	if (argc >= 4 && (!strcmp(verb, "http") || !strcmp(verb, "udp")))
		return ask(*verb == 'h' ? SOCK_STREAM : SOCK_DGRAM, argv[2], argv[3], argc > 4 ? atoi(argv[4]) : 3);
	if (argc >= 3 && !strcmp(verb, "rss"))
		return rss(argv + 2);
	fputs("probe serve NAME PORT | http ADDRESS PORT [SECONDS] | udp ADDRESS PORT [SECONDS] | rss PROGRAM ARGUMENT...\n", stderr);
	return 2;
}
