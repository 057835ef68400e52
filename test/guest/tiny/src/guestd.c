/* SPDX-License-Identifier: Apache-2.0
 *
 * guestd: the tiny guest's one daemon. Started by init with standard output on
 * the console. It
 *  - writes the heartbeat, "SKERRY-HB <uptime> <number>", every 100 ms to the
 *    device named in /run/heartbeat: one below /dev, or a virtio-serial port by
 *    its name ("off" for none; read again on SIGHUP). It never waits for the
 *    device: what does not fit is left out and the number goes on, so a reader
 *    sees the gap;
 *  - brings CPUs and memory online as they are plugged in, and hands new
 *    network devices to /etc/net.sh;
 *  - powers the machine off when the ACPI power button is pressed, unless
 *    /run/powerbutton says "ignore".
 *
 * It reads the kernel's uevents itself, so nothing has to poll. Under the name
 * witness it is the program in witness.c.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_NS 100000000L
#define MAX_BUTTONS 8

static double uptime(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vdprintf(STDOUT_FILENO, format, args);
	va_end(args);
}

/* Reads a small file's first word into word; empty if there is none. */
static void first_word(const char *path, char *word, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, word, size - 1);

	if (fd >= 0)
		close(fd);
	word[n < 0 ? 0 : n] = 0;
	word[strcspn(word, " \t\n")] = 0;
}

static bool put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* --- heartbeat --- */

static struct {
	char device[64]; /* empty: none */
	int fd;
	unsigned long number;
	char rest[80]; /* of a line that was written in part */
	size_t rest_len;
} beat = {.fd = -1};

static void beat_configure(void)
{
	if (beat.fd >= 0)
		close(beat.fd);
	beat.fd = -1;
	beat.rest_len = 0;
	first_word("/run/heartbeat", beat.device, sizeof beat.device);
	if (!strcmp(beat.device, "off") || strstr(beat.device, ".."))
		beat.device[0] = 0;
}

static void beat_open(void)
{
	static const char ports[] = "/sys/class/virtio-ports";
	char path[320], name[64];
	DIR *dir;
	struct dirent *e;

	snprintf(path, sizeof path, "/dev/%s", beat.device);
	beat.fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (beat.fd >= 0 || !(dir = opendir(ports)))
		return;
	while (beat.fd < 0 && (e = readdir(dir))) {
		snprintf(path, sizeof path, "%s/%s/name", ports, e->d_name);
		first_word(path, name, sizeof name);
		if (strcmp(name, beat.device))
			continue;
		snprintf(path, sizeof path, "/dev/%s", e->d_name);
		beat.fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	closedir(dir);
}

static void beat_write(const char *data, size_t len)
{
	ssize_t n = write(beat.fd, data, len);

	if (n < 0 && errno != EAGAIN) {
		/* The device is gone or nobody is on the other side; the next beat
		 * opens it anew. */
		close(beat.fd);
		beat.fd = -1;
		beat.rest_len = 0;
		return;
	}
	if (n < 0)
		n = 0;
	if ((size_t)n == len) {
		beat.rest_len = 0;
	} else if (n > 0 || data == beat.rest) {
		memmove(beat.rest, data + n, len - n);
		beat.rest_len = len - n;
	}
}

static void beat_once(void)
{
	char line[80];

	if (!beat.device[0])
		return;
	beat.number++;
	if (beat.fd < 0)
		beat_open();
	if (beat.fd >= 0 && beat.rest_len)
		beat_write(beat.rest, beat.rest_len);
	if (beat.fd >= 0 && !beat.rest_len)
		beat_write(line, snprintf(line, sizeof line, "SKERRY-HB %.2f %lu\n", uptime(), beat.number));
}

/* --- power button --- */

static int buttons[MAX_BUTTONS];
static char button_names[MAX_BUTTONS][32];
static int button_count;

static void button_open(const char *name)
{
	unsigned long keys[KEY_MAX / (8 * sizeof(long)) + 1] = {0};
	char path[64];
	int fd, i;

	if (button_count == MAX_BUTTONS || strncmp(name, "event", 5))
		return;
	/* One that was there at the start may be announced once more. */
	for (i = 0; i < button_count; i++)
		if (!strcmp(button_names[i], name))
			return;
	snprintf(path, sizeof path, "/dev/input/%.32s", name);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	ioctl(fd, EVIOCGBIT(EV_KEY, sizeof keys), keys);
	if (!(keys[KEY_POWER / (8 * sizeof(long))] >> KEY_POWER % (8 * sizeof(long)) & 1)) {
		close(fd);
		return;
	}
	snprintf(button_names[button_count], sizeof button_names[0], "%s", name);
	buttons[button_count++] = fd;
}

static void buttons_open(void)
{
	DIR *dir = opendir("/dev/input");
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		button_open(e->d_name);
	if (dir)
		closedir(dir);
}

static void button_read(int fd)
{
	struct input_event e;
	char word[16];

	while (read(fd, &e, sizeof e) == sizeof e) {
		if (e.type != EV_KEY || e.code != KEY_POWER || e.value != 1)
			continue;
		first_word("/run/powerbutton", word, sizeof word);
		say("SKERRY-GUEST POWER-BUTTON %.2f%s\n", uptime(), strcmp(word, "ignore") ? "" : " ignored");
		if (!strcmp(word, "ignore"))
			continue;
		sync();
		say("SKERRY-GUEST POWER-OFF %.2f\n", uptime());
		reboot(RB_POWER_OFF);
	}
}

/* --- hot-plug --- */

static void run_net_script(const char *interface)
{
	if (fork() == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execl("/etc/net.sh", "/etc/net.sh", interface, NULL);
		_exit(127);
	}
}

static void uevent(const char *message)
{
	const char *device, *base, *value;
	char path[256];

	/* "add@/devices/system/cpu/cpu1", then key=value strings; the header is
	 * all that is needed. */
	if (strncmp(message, "add@", 4))
		return;
	device = message + 4;
	base = strrchr(device, '/');
	if (!base)
		return;
	base++;
	if (!strncmp(device, "/devices/system/cpu/cpu", 23)) {
		snprintf(path, sizeof path, "/sys%.200s/online", device);
		value = "1";
	} else if (!strncmp(device, "/devices/system/memory/memory", 29)) {
		snprintf(path, sizeof path, "/sys%.200s/state", device);
		value = "online_movable";
	} else {
		if (base - device > 5 && !strncmp(base - 5, "/net/", 5) && !strncmp(base, "eth", 3))
			run_net_script(base);
		else if (strstr(device, "/input/"))
			button_open(base);
		return;
	}
	if (put(path, value))
		say("SKERRY-GUEST ONLINE %.2f %s\n", uptime(), base);
}

static int uevent_socket(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
	int size = 1 << 20;
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address)) {
		say("guestd: no uevents: %s\n", strerror(errno));
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	return fd;
}

static int guestd(void)
{
	struct itimerspec every = {{0, INTERVAL_NS}, {0, INTERVAL_NS}};
	struct pollfd fds[3 + MAX_BUTTONS];
	sigset_t signals;
	int timer = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	int events = uevent_socket();
	int signal_fd;

	sigemptyset(&signals);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (timer < 0 || events < 0 || signal_fd < 0)
		return 1;
	beat_configure();
	buttons_open();
	for (;;) {
		static char message[8192];
		uint64_t ticks;
		ssize_t n;
		int i;
		/* A timer that nobody needs would wake an idle guest ten times a second. */
		struct itimerspec off = {0};
		static bool armed;

		if (armed != (beat.device[0] != 0)) {
			armed = !armed;
			timerfd_settime(timer, 0, armed ? &every : &off, NULL);
		}
		fds[0] = (struct pollfd){.fd = timer, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = events, .events = POLLIN};
		fds[2] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
		for (i = 0; i < button_count; i++)
			fds[3 + i] = (struct pollfd){.fd = buttons[i], .events = POLLIN};
		n = 3 + button_count;
		if (poll(fds, n, -1) < 0)
			continue;
		if (fds[0].revents && read(timer, &ticks, sizeof ticks) == sizeof ticks)
			beat_once();
		if (fds[2].revents) {
			struct signalfd_siginfo s;

			while (read(signal_fd, &s, sizeof s) == sizeof s)
				if (s.ssi_signo == SIGHUP)
					beat_configure();
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
		}
		for (i = 3; i < n; i++)
			if (fds[i].revents)
				button_read(fds[i].fd);
		if (fds[1].revents)
			while ((n = recv(events, message, sizeof message - 1, 0)) > 0) {
				message[n] = 0;
				uevent(message);
			}
	}
}

int witness_main(int argc, char **argv);

int main(int argc, char **argv)
{
	if (argc > 0 && !strcmp(basename(argv[0]), "witness"))
		return witness_main(argc, argv);
	return guestd();
}
