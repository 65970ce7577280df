/* A device on this machine: three joints and a gripper that follow with a lag, on a pseudo-terminal or a UDP port.
 *
 *     host pty | host udp PORT | host stdin    [KEYFILE]
 *
 * The first line printed says where, as JSON; SIGTERM ends it, and it prints what it has counted. SIGUSR1 makes a
 * fault of it, SIGUSR2 blinds its first joint. `stdin` takes one stream of bytes, answers nothing and prints the
 * counts: what the fuzzer feeds.
 */
#define _XOPEN_SOURCE 600

#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "wpg_device.h"

enum { AXES = 4 };
#define LAG_S 0.02

static const wpg_joint axes[AXES] = {{"base", -2.5f, 2.5f, 2.0f},
                                     {"shoulder", -1.5f, 1.5f, 2.0f},
                                     {"elbow", -2.0f, 2.0f, 2.0f},
                                     {"gripper", 0.0f, 0.06f, 0.2f}}; /* m, m/s */

typedef struct {
    double position[AXES], target[AXES], velocity[AXES];
    uint64_t moved_us;
    unsigned long stops;
    int output;
    bool is_udp, has_peer;
    struct sockaddr_in peer;
} host_arm;

static volatile sig_atomic_t stopped, faulty, blinded;

static void on_signal(int number) {
    if (number == SIGUSR1)
        faulty = 1;
    else if (number == SIGUSR2)
        blinded = 1;
    else
        stopped = 1;
}

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void move(host_arm *arm, uint64_t now) {
    double dt_s = (double)(now - arm->moved_us) * 1e-6;
    double share = 1.0 - exp(-dt_s / LAG_S);
    if (now <= arm->moved_us) return;
    arm->moved_us = now;
    for (int i = 0; i < AXES; i++) {
        double step = (arm->target[i] - arm->position[i]) * share;
        arm->position[i] += step;
        arm->velocity[i] = step / dt_s;
    }
}

static void send_bytes(void *context, const uint8_t *data, size_t size) {
    host_arm *arm = context;
    ssize_t sent = 0;
    if (arm->output < 0) return;
    if (arm->is_udp && arm->has_peer)
        sent = sendto(arm->output, data, size, 0, (struct sockaddr *)&arm->peer, sizeof arm->peer);
    if (!arm->is_udp) sent = write(arm->output, data, size);
    (void)sent; /* a peer that is gone is no fault of this end */
}

static void measure(void *context, float *position, float *velocity, float *torque) {
    host_arm *arm = context;
    for (int i = 0; i < AXES; i++) {
        position[i] = (float)arm->position[i];
        velocity[i] = (float)arm->velocity[i];
        torque[i] = 0.0f;
    }
    if (blinded) position[0] = NAN;
}

static void drive(void *context, const float *position, const float *velocity) {
    host_arm *arm = context;
    for (int i = 0; i < AXES; i++) arm->target[i] = (double)position[i] + LAG_S * (double)velocity[i];
}

static void stop(void *context, wpg_stop_mode mode) {
    host_arm *arm = context; /* it has no weight: it stands in every mode */
    (void)mode;
    arm->stops++;
    memcpy(arm->target, arm->position, sizeof arm->target);
}

static uint32_t random_number(void *context) {
    static FILE *source;
    uint32_t number = 0;
    (void)context;
    if (!source) source = fopen("/dev/urandom", "rb");
    if (!source || fread(&number, sizeof number, 1, source) != 1) abort();
    return number;
}

static int open_pty(void) {
    struct termios raw;
    int own = posix_openpt(O_RDWR | O_NOCTTY), other;
    if (own < 0 || grantpt(own) || unlockpt(own)) return -1;
    other = open(ptsname(own), O_RDWR | O_NOCTTY); /* kept open, so that clients may come and go */
    if (other < 0 || tcgetattr(other, &raw)) return -1;
    raw.c_iflag = raw.c_oflag = raw.c_lflag = 0;
    raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    if (tcsetattr(other, TCSANOW, &raw)) return -1;
    printf("{\"link\":\"serial://%s\",\"robot\":\"desk_arm\",\"protocol\":\"native\",\"pid\":%ld}\n", ptsname(own),
           (long)getpid());
    return own;
}

static int open_udp(const char *port) {
    struct sockaddr_in here;
    socklen_t size = sizeof here;
    int own = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&here, 0, sizeof here);
    here.sin_family = AF_INET;
    here.sin_port = htons((uint16_t)atoi(port));
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (own < 0 || bind(own, (struct sockaddr *)&here, size) || getsockname(own, (struct sockaddr *)&here, &size))
        return -1;
    printf("{\"link\":\"udp://127.0.0.1:%u\",\"robot\":\"desk_arm\",\"protocol\":\"native\",\"pid\":%ld}\n",
           (unsigned)ntohs(here.sin_port), (long)getpid());
    return own;
}

static void serve(wpg_device *device, host_arm *arm) {
    uint8_t data[2048];
    struct pollfd waited = {arm->output, POLLIN, 0};
    while (!stopped) {
        ssize_t size = 0;
        socklen_t peer_size = sizeof arm->peer;
        if (poll(&waited, 1, 1) > 0) {
            if (arm->is_udp)
                size = recvfrom(arm->output, data, sizeof data, 0, (struct sockaddr *)&arm->peer, &peer_size);
            else
                size = read(arm->output, data, sizeof data);
            arm->has_peer = true;
        }
        move(arm, now_us());
        if (faulty) device->status = WPG_FAULT;
        if (size > 0) wpg_receive(device, data, (size_t)size, now_us());
        wpg_update(device, now_us());
    }
}

int main(int argc, char **argv) {
    static const wpg_hooks hooks = {send_bytes, measure, drive, stop, random_number};
    wpg_config config = {"desk_arm", axes, AXES, 100000, 50000, NULL, 0};
    static uint8_t key[WPG_KEY_MAX];
    static wpg_device device;
    static host_arm arm;
    const char *mode = argc > 1 ? argv[1] : "";
    int key_at = strcmp(mode, "udp") ? 2 : 3;
    if (argc > key_at) {
        FILE *file = fopen(argv[key_at], "r");
        unsigned byte;
        while (file && config.key_size < sizeof key && fscanf(file, "%2x", &byte) == 1)
            key[config.key_size++] = (uint8_t)byte;
        if (config.key_size != sizeof key) {
            fprintf(stderr, "host: no key of 32 bytes in %s\n", argv[key_at]);
            return 1;
        }
        fclose(file);
        config.key = key;
    }
    if (!wpg_init(&device, &config, &hooks, &arm)) return 1;
    arm.moved_us = now_us();
    arm.is_udp = !strcmp(mode, "udp");
    arm.output = -1;
    if (!strcmp(mode, "stdin")) {
        uint8_t data[4096];
        ssize_t size;
        uint64_t time_us = 0;
        while ((size = read(0, data, sizeof data)) > 0) {
            wpg_receive(&device, data, (size_t)size, time_us);
            wpg_update(&device, time_us += 1000);
        }
    } else {
        if (arm.is_udp && argc > 2) arm.output = open_udp(argv[2]);
        if (!strcmp(mode, "pty")) arm.output = open_pty();
        if (arm.output < 0) {
            fprintf(stderr, "usage: host pty | udp PORT | stdin [KEYFILE]\n");
            return 2;
        }
        fflush(stdout);
        signal(SIGTERM, on_signal);
        signal(SIGINT, on_signal);
        signal(SIGUSR1, on_signal);
        signal(SIGUSR2, on_signal);
        serve(&device, &arm);
    }
    printf("{\"frames_ok\":%lu,\"frames_bad\":%lu,\"frames_unauthenticated\":%lu,\"frames_foreign\":%lu,"
           "\"commands_ok\":%lu,\"commands_refused\":%lu,\"arms\":%lu,\"holds\":%lu,\"stops\":%lu}\n",
           (unsigned long)device.counts.frames_ok, (unsigned long)device.counts.frames_bad,
           (unsigned long)device.counts.frames_unauthenticated, (unsigned long)device.counts.frames_foreign,
           (unsigned long)device.counts.commands_ok, (unsigned long)device.counts.commands_refused,
           (unsigned long)device.counts.arms, (unsigned long)device.counts.holds, arm.stops);
    return 0;
}
