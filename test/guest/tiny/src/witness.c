/* SPDX-License-Identifier: Apache-2.0
 *
 * witness: what the tests ask when they want to know how a guest fared. "witness
 * start" leaves three processes behind:
 *  - beat: wakes every 10 ms and keeps the longest time between two wakings; it
 *    can also send each beat as a datagram, for a listener with a clock of its own;
 *  - writer: writes records to the disk with the serial number WITNESS, each with
 *    O_DIRECT and O_DSYNC, and counts one as acknowledged once write(2) returned;
 *  - server: answers the same commands over TCP port 7000, one line in, some lines
 *    out, so that a guest can be asked while its console is busy or nobody serves
 *    it; and echoes on port 7, UDP and TCP.
 * The commands are in usage() below. Counters are in memory that the processes
 * share, /run/witness.
 *
 * A record is one block of 4096 bytes at the place (number modulo places), little
 * endian, as struct record says; package test/witness reads it from outside.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BEAT_US 10000
#define WRITE_US 20000 /* between two writes, so that a guest leaves room for others */
#define BLOCK 4096
#define MAX_PLACES 2048 /* 8 MiB; older records are written over */
#define SHARED "/run/witness"
#define DISK_LOCK "/run/witness.disk"
#define PORT 7000
#define ECHO_PORT 7
#define MAX_CLIENTS 16

struct record {
	char magic[8];
	uint64_t number; /* from 1, without gaps */
	uint64_t at_us;  /* CLOCK_BOOTTIME */
	char boot[36];   /* the boot that wrote it */
	uint32_t places;
	uint32_t crc;    /* CRC-32C of the block with this field zero */
	uint8_t fill[BLOCK - 68];
};
static const char magic[8] = "SKWITN01";

/* Counters; each has one writer or is added to atomically. */
static struct shared {
	uint64_t beats, gap_us, gap_at_us;
	uint64_t acked, write_errors, slowest_us, read_back, bad_reads;
	uint64_t udp_in, udp_out, tcp_in, tcp_out, printed;
	uint64_t reset;   /* raised to have the beat process forget the longest gap */
	uint64_t beat_id; /* changes when beat_to has */
	struct sockaddr_in beat_to;
	char disk[64];
} *s;

static uint64_t now_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static void add(uint64_t *counter, uint64_t n) { __atomic_add_fetch(counter, n, __ATOMIC_RELAXED); }
static uint64_t get(uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_ACQUIRE); }
static void set(uint64_t *counter, uint64_t n) { __atomic_store_n(counter, n, __ATOMIC_RELEASE); }

static void first_line(const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, size - 1);

	if (fd >= 0)
		close(fd);
	line[n < 0 ? 0 : n] = 0;
	line[strcspn(line, "\n")] = 0;
}

static void boot_id(char id[37])
{
	first_line("/proc/sys/kernel/random/boot_id", id, 37);
}

/* --- the disk --- */

static uint32_t crc32c(const void *data, size_t len)
{
	static uint32_t table[256];
	const uint8_t *p = data;
	uint32_t crc = ~0u;

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = i;

			for (int k = 0; k < 8; k++)
				c = c & 1 ? c >> 1 ^ 0x82f63b78 : c >> 1;
			table[i] = c;
		}
	while (len--)
		crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return ~crc;
}

static bool record_valid(struct record *r)
{
	uint32_t crc = r->crc;
	bool ok;

	if (memcmp(r->magic, magic, sizeof magic))
		return false;
	r->crc = 0;
	ok = crc32c(r, sizeof *r) == crc;
	r->crc = crc;
	return ok;
}

static void record_fill(struct record *r, uint64_t number, uint32_t places)
{
	uint64_t x = number * 0x9e3779b97f4a7c15ull | 1;
	char boot[37];

	memcpy(r->magic, magic, sizeof magic);
	r->number = number;
	r->at_us = now_us(CLOCK_BOOTTIME);
	boot_id(boot);
	memcpy(r->boot, boot, sizeof r->boot);
	r->places = places;
	for (size_t i = 0; i + 8 <= sizeof r->fill; i += 8) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		memcpy(r->fill + i, &x, 8);
	}
	r->crc = 0;
	r->crc = crc32c(r, sizeof *r);
}

/* Finds the disk by its serial number; false if there is none. */
static bool disk_find(char *path, size_t size)
{
	char name[320], serial[64];
	DIR *dir = opendir("/sys/block");
	struct dirent *e;
	bool found = false;

	while (dir && !found && (e = readdir(dir))) {
		snprintf(name, sizeof name, "/sys/block/%s/serial", e->d_name);
		first_line(name, serial, sizeof serial);
		if ((found = !strcmp(serial, "WITNESS")))
			snprintf(path, size, "/dev/%.32s", e->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

static int disk_open(int flags, uint32_t *places)
{
	uint64_t bytes = 0;
	int fd = open(s->disk, flags | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (ioctl(fd, BLKGETSIZE64, &bytes) || bytes < 2 * BLOCK) {
		close(fd);
		return -1;
	}
	*places = bytes / BLOCK < MAX_PLACES ? bytes / BLOCK : MAX_PLACES;
	return fd;
}

struct scan {
	uint64_t last, first, records, torn, gaps, io_errors;
};

/* Reads the whole log. Torn is what begins as a record and does not add up, gaps
 * are numbers up to the last one that should be there and are not. */
static int disk_scan(int fd, uint32_t places, struct scan *c)
{
	uint64_t *numbers = calloc(places, sizeof *numbers);
	struct record *r;

	memset(c, 0, sizeof *c);
	if (!numbers || posix_memalign((void **)&r, BLOCK, BLOCK))
		return -1;
	for (uint32_t i = 0; i < places; i++) {
		if (pread(fd, r, BLOCK, (off_t)i * BLOCK) != BLOCK) {
			c->io_errors++;
			continue;
		}
		if (!record_valid(r)) {
			c->torn += !memcmp(r->magic, magic, sizeof magic);
			continue;
		}
		c->records++;
		numbers[i] = r->number;
		if (r->number > c->last)
			c->last = r->number;
	}
	c->first = c->last > places ? c->last - places + 1 : 1;
	for (uint64_t n = c->first; n <= c->last; n++)
		c->gaps += numbers[n % places] != n;
	free(numbers);
	free(r);
	return 0;
}

static int disk_lock(int how)
{
	int fd = open(DISK_LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0 && how)
		flock(fd, how);
	return fd;
}

static void writer(void)
{
	uint32_t places;
	int fd = disk_open(O_RDWR | O_DSYNC, &places), lock = disk_lock(0);
	struct record *r, *back;
	struct scan c;

	if (fd < 0 || posix_memalign((void **)&r, BLOCK, BLOCK) || posix_memalign((void **)&back, BLOCK, BLOCK) ||
	    disk_scan(fd, places, &c)) {
		dprintf(STDOUT_FILENO, "SKERRY-WITNESS error disk %s: %s\n", s->disk, strerror(errno));
		_exit(1);
	}
	set(&s->acked, c.last);
	for (uint64_t number = c.last + 1;; number++) {
		uint64_t start, took, older;

		record_fill(r, number, places);
		for (;;) {
			ssize_t n;

			flock(lock, LOCK_EX);
			start = now_us(CLOCK_MONOTONIC);
			n = pwrite(fd, r, BLOCK, (off_t)(number % places) * BLOCK);
			took = now_us(CLOCK_MONOTONIC) - start;
			if (n == BLOCK)
				set(&s->acked, number);
			flock(lock, LOCK_UN);
			if (n == BLOCK)
				break;
			add(&s->write_errors, 1);
			usleep(100000);
		}
		if (took > s->slowest_us)
			set(&s->slowest_us, took);
		if (number % 16 == 0) {
			/* Some of what was written is read back at once. */
			older = number - number / 16 % (places < number ? places : number);
			if (pread(fd, back, BLOCK, (off_t)(older % places) * BLOCK) == BLOCK &&
			    record_valid(back) && back->number == older)
				add(&s->read_back, 1);
			else
				add(&s->bad_reads, 1);
		}
		usleep(WRITE_US);
	}
}

/* --- the heartbeat --- */

static void beater(void)
{
	struct sched_param high = {.sched_priority = 50};
	uint64_t last, now, seen = 0;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct timespec next;
	char line[64];

	/* It is the machine's stalls that count, not what else the guest does. */
	sched_setscheduler(0, SCHED_FIFO, &high);
	mlockall(MCL_CURRENT);
	last = now_us(CLOCK_MONOTONIC);
	for (;;) {
		next.tv_sec = (last + BEAT_US) / 1000000;
		next.tv_nsec = (last + BEAT_US) % 1000000 * 1000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		now = now_us(CLOCK_MONOTONIC);
		if (get(&s->reset) != seen) {
			seen = get(&s->reset);
			s->gap_us = 0;
			s->gap_at_us = 0;
		}
		if (now - last > s->gap_us) {
			set(&s->gap_us, now - last);
			set(&s->gap_at_us, now_us(CLOCK_BOOTTIME));
		}
		last = now;
		add(&s->beats, 1);
		if (fd >= 0 && s->beat_to.sin_port)
			sendto(fd, line, snprintf(line, sizeof line, "beat %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", s->beat_id, s->beats, now),
			       0, (struct sockaddr *)&s->beat_to, sizeof s->beat_to);
	}
}

/* --- commands --- */

static int usage(int out)
{
	dprintf(out,
		"SKERRY-WITNESS error commands are: report; reset (forgets the longest gap); verify (reads the whole log);\n"
		"beats ADDRESS PORT ID | beats off; print BYTES (to the console); poweroff; panic; and, not over TCP, start, stop\n");
	return 2;
}

static int report(int out)
{
	char boot[37];

	boot_id(boot);
	dprintf(out,
		"SKERRY-WITNESS report boot=%s uptime_us=%" PRIu64 " beats=%" PRIu64 " gap_us=%" PRIu64 " gap_at_us=%" PRIu64
		" disk=%s acked=%" PRIu64 " write_errors=%" PRIu64 " slowest_us=%" PRIu64 " read_back=%" PRIu64 " bad_reads=%" PRIu64
		" udp_in=%" PRIu64 " udp_out=%" PRIu64 " tcp_in=%" PRIu64 " tcp_out=%" PRIu64 " printed=%" PRIu64 "\n",
		boot, now_us(CLOCK_BOOTTIME), get(&s->beats), get(&s->gap_us), get(&s->gap_at_us),
		s->disk[0] ? s->disk : "none", get(&s->acked), get(&s->write_errors), get(&s->slowest_us), get(&s->read_back), get(&s->bad_reads),
		get(&s->udp_in), get(&s->udp_out), get(&s->tcp_in), get(&s->tcp_out), get(&s->printed));
	return 0;
}

static int verify(int out)
{
	struct scan c;
	uint32_t places;
	uint64_t acked;
	int fd = s->disk[0] ? disk_open(O_RDONLY, &places) : -1, lock, err;

	if (fd < 0) {
		dprintf(out, "SKERRY-WITNESS error no disk with the serial number WITNESS\n");
		return 1;
	}
	lock = disk_lock(LOCK_EX);
	acked = get(&s->acked);
	err = disk_scan(fd, places, &c);
	close(lock);
	close(fd);
	if (err) {
		dprintf(out, "SKERRY-WITNESS error no memory\n");
		return 1;
	}
	dprintf(out,
		"SKERRY-WITNESS verify places=%u records=%" PRIu64 " first=%" PRIu64 " last=%" PRIu64 " acked=%" PRIu64
		" torn=%" PRIu64 " gaps=%" PRIu64 " io_errors=%" PRIu64 "\n",
		places, c.records, c.first, c.last, acked, c.torn, c.gaps, c.io_errors);
	return 0;
}

/* Prints numbered lines to the console, at the pace at which it takes them. */
static int print(int out, const char *arg)
{
	uint64_t want = strtoull(arg, NULL, 10), done = 0, line = 0;
	char text[128];
	int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || want == 0 || want > 1ull << 32) {
		dprintf(out, "SKERRY-WITNESS error print BYTES, from 1 to 2^32\n");
		return 2;
	}
	while (done < want) {
		int n = snprintf(text, sizeof text, "SKERRY-PRINT %010" PRIu64 " %0100d", ++line, 0);

		text[n++] = '\n';
		for (int at = 0; at < n;) {
			ssize_t w = write(fd, text + at, n - at);

			if (w < 0 && errno != EINTR) {
				dprintf(out, "SKERRY-WITNESS error print: %s\n", strerror(errno));
				return 1;
			}
			at += w > 0 ? w : 0;
		}
		done += n;
		add(&s->printed, n);
	}
	dprintf(out, "SKERRY-WITNESS printed bytes=%" PRIu64 " lines=%" PRIu64 "\n", done, line);
	return 0;
}

static int beats(int out, const char *address, const char *port, const char *id)
{
	struct sockaddr_in to = {.sin_family = AF_INET};

	if (!strcmp(address, "off")) {
		s->beat_to = (struct sockaddr_in){0};
	} else {
		to.sin_port = htons(strtoul(port, NULL, 10));
		if (inet_pton(AF_INET, address, &to.sin_addr) != 1 || !to.sin_port) {
			dprintf(out, "SKERRY-WITNESS error beats ADDRESS PORT ID, an IPv4 address\n");
			return 2;
		}
		s->beat_id = strtoull(id, NULL, 10);
		s->beat_to = to;
	}
	dprintf(out, "SKERRY-WITNESS ok\n");
	return 0;
}

static int end(int out, bool crash)
{
	int fd;

	dprintf(out, "SKERRY-WITNESS ok\n");
	shutdown(out, SHUT_WR); /* of a connection: the answer goes before the guest does */
	usleep(50000);
	if (!crash) {
		reboot(RB_POWER_OFF);
		return 1;
	}
	fd = open("/proc/sys/kernel/sysrq", O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) != 1 || (fd = open("/proc/sysrq-trigger", O_WRONLY)) < 0)
		return 1;
	return write(fd, "c", 1) == 1 ? 0 : 1;
}

static int command(int out, int argc, char **argv)
{
	const char *verb = argc > 0 ? argv[0] : "";

	if (!strcmp(verb, "report") && argc == 1)
		return report(out);
	if (!strcmp(verb, "reset") && argc == 1) {
		uint64_t beats = get(&s->beats);

		add(&s->reset, 1);
		set(&s->slowest_us, 0);
		/* Only a beat forgets: wait for it, so that what is asked next is new. */
		for (int i = 0; i < 1000 && get(&s->beats) < beats + 2; i++)
			usleep(5000);
		return report(out);
	}
	if (!strcmp(verb, "verify") && argc == 1)
		return verify(out);
	if (!strcmp(verb, "print") && argc == 2)
		return print(out, argv[1]);
	if (!strcmp(verb, "beats") && (argc == 4 || (argc == 2 && !strcmp(argv[1], "off"))))
		return beats(out, argv[1], argc == 4 ? argv[2] : "", argc == 4 ? argv[3] : "");
	if (!strcmp(verb, "poweroff") && argc == 1)
		return end(out, false);
	if (!strcmp(verb, "panic") && argc == 1)
		return end(out, true);
	return usage(out);
}

/* --- the network --- */

static int listener(int type, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || (type == SOCK_STREAM && listen(fd, 16))) {
		dprintf(STDOUT_FILENO, "SKERRY-WITNESS error port %d: %s\n", port, strerror(errno));
		_exit(1);
	}
	return fd;
}

static void serve_command(int fd)
{
	char line[256], *argv[8];
	size_t len = 0;
	int argc = 0;

	alarm(600);
	while (len < sizeof line - 1 && !memchr(line, '\n', len)) {
		ssize_t n = read(fd, line + len, sizeof line - 1 - len);

		if (n <= 0)
			_exit(1);
		len += n;
	}
	line[len] = 0;
	line[strcspn(line, "\r\n")] = 0;
	for (char *w = strtok(line, " "); w && argc < 8; w = strtok(NULL, " "))
		argv[argc++] = w;
	_exit(command(fd, argc, argv));
}

static void serve_echo(int fd)
{
	char data[16384];
	ssize_t n;

	while ((n = read(fd, data, sizeof data)) > 0) {
		add(&s->tcp_in, n);
		for (ssize_t at = 0, w; at < n; at += w) {
			if ((w = write(fd, data + at, n - at)) <= 0)
				_exit(1);
			add(&s->tcp_out, w);
		}
	}
	_exit(0);
}

static void server(void)
{
	struct pollfd fds[3] = {
		{.fd = listener(SOCK_STREAM, PORT), .events = POLLIN},
		{.fd = listener(SOCK_STREAM, ECHO_PORT), .events = POLLIN},
		{.fd = listener(SOCK_DGRAM, ECHO_PORT), .events = POLLIN},
	};
	int clients = 0;

	for (;;) {
		while (clients && waitpid(-1, NULL, clients >= MAX_CLIENTS ? 0 : WNOHANG) > 0)
			clients--;
		if (poll(fds, 3, 1000) <= 0)
			continue;
		for (int i = 0; i < 2; i++) {
			int c = fds[i].revents ? accept4(fds[i].fd, NULL, NULL, SOCK_CLOEXEC) : -1;

			if (c < 0)
				continue;
			switch (fork()) {
			case 0:
				i ? serve_echo(c) : serve_command(c);
				break;
			case -1:
				break;
			default:
				clients++;
			}
			close(c);
		}
		if (fds[2].revents) {
			char data[2048];
			struct sockaddr_in from;
			socklen_t len = sizeof from;
			ssize_t n = recvfrom(fds[2].fd, data, sizeof data, MSG_DONTWAIT, (struct sockaddr *)&from, &len);

			if (n < 0)
				continue;
			add(&s->udp_in, 1);
			if (sendto(fds[2].fd, data, n, MSG_DONTWAIT, (struct sockaddr *)&from, len) == n)
				add(&s->udp_out, 1);
		}
	}
}

/* --- start and stop --- */

static pid_t spawn(const char *name, void (*run)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		int console = open("/dev/console", O_WRONLY | O_NOCTTY), null = open("/dev/null", O_RDWR);

		setsid();
		signal(SIGPIPE, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		prctl(PR_SET_NAME, name);
		dup2(null, 0);
		dup2(console >= 0 ? console : null, 1);
		dup2(1, 2);
		for (int fd = 3; fd < 64; fd++)
			close(fd);
		run();
		_exit(0);
	}
	return pid;
}

static int stop(void)
{
	char pids[128], *rest = pids;

	first_line("/run/witness.pids", pids, sizeof pids);
	for (char *w; (w = strtok_r(rest, " ", &rest));)
		kill(atoi(w), SIGKILL);
	unlink("/run/witness.pids");
	unlink(SHARED);
	return 0;
}

static int start(void)
{
	pid_t pids[3] = {0};
	FILE *f;

	if (!access("/run/witness.pids", F_OK))
		return report(STDOUT_FILENO); /* it runs */
	signal(SIGCHLD, SIG_IGN);
	if (!disk_find(s->disk, sizeof s->disk))
		s->disk[0] = 0;
	pids[0] = spawn("witness-beat", beater);
	if (s->disk[0])
		pids[1] = spawn("witness-write", writer);
	pids[2] = spawn("witness-server", server);
	if (!(f = fopen("/run/witness.pids", "w")))
		return 1;
	for (int i = 0; i < 3; i++)
		if (pids[i] > 0)
			fprintf(f, "%d ", pids[i]);
	fclose(f);
	/* The first beat and the first write show that all is well. */
	for (int i = 0; i < 6000 && (!get(&s->beats) || (s->disk[0] && !get(&s->acked))); i++)
		usleep(10000);
	return report(STDOUT_FILENO);
}

int witness_main(int argc, char **argv);

int witness_main(int argc, char **argv)
{
	int fd;

	if (argc == 2 && !strcmp(argv[1], "stop"))
		return stop();
	fd = open(SHARED, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof *s) ||
	    (s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED) {
		dprintf(STDOUT_FILENO, "SKERRY-WITNESS error %s: %s\n", SHARED, strerror(errno));
		return 1;
	}
	if (argc == 2 && !strcmp(argv[1], "start"))
		return start();
	signal(SIGPIPE, SIG_IGN);
	return command(STDOUT_FILENO, argc - 1, argv + 1);
}
