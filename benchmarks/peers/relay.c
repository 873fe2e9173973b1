/* The bare relay that W3 compares with: one epoll loop, two UDP sockets a call, nothing that could be left out.
 *
 *   relay HOST FIRST_PORT CALLS
 *
 * Call number n has the ports FIRST_PORT + 4n and FIRST_PORT + 4n + 2. What comes to one of them is looked at (is it RTP?),
 * counted, and leaves from the other to where that one was last heard from. It says "ready" and runs until SIGTERM.
 */

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 256
#define PACKET_BYTES 2048
#define RECEIVE_BYTES (64 * 1024)

struct leg {
    int socket;
    struct leg *other;
    struct sockaddr_in source; /* port 0: not heard from yet */
    uint64_t packets, bytes;
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void open_leg(struct leg *leg, int epoll, const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event watched = {.events = EPOLLIN, .data.ptr = leg};
    int bytes = RECEIVE_BYTES;

    leg->socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (leg->socket < 0)
        fail("socket");
    setsockopt(leg->socket, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || bind(leg->socket, (void *)&address, sizeof address) < 0)
        fail("bind");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, leg->socket, &watched) < 0)
        fail("epoll_ctl");
}

static void relay(struct leg *leg) {
    unsigned char packet[PACKET_BYTES];
    struct sockaddr_in source;
    socklen_t size = sizeof source;
    ssize_t length = recvfrom(leg->socket, packet, sizeof packet, 0, (void *)&source, &size);

    if (length < 12 || packet[0] >> 6 != 2)
        return;
    if (leg->source.sin_port == 0)
        leg->source = source;
    else if (leg->source.sin_port != source.sin_port || leg->source.sin_addr.s_addr != source.sin_addr.s_addr)
        return;
    leg->packets++;
    leg->bytes += (uint64_t)length;
    if (leg->other->source.sin_port != 0)
        sendto(leg->other->socket, packet, (size_t)length, 0, (void *)&leg->other->source, sizeof source);
}

int main(int count, char **arguments) {
    struct rlimit files;
    struct epoll_event ready[EVENTS_AT_ONCE];

    if (count != 4)
        return 2;
    int first = atoi(arguments[2]), legs = 2 * atoi(arguments[3]), epoll = epoll_create1(0);
    struct leg *all = calloc((size_t)legs, sizeof *all);
    if (all == NULL || epoll < 0)
        fail("start");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int each = 0; each < legs; each++) {
        all[each].other = &all[each ^ 1];
        open_leg(&all[each], epoll, arguments[1], first + 2 * each);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int found = epoll_wait(epoll, ready, EVENTS_AT_ONCE, -1);
        for (int each = 0; each < found; each++)
            relay(ready[each].data.ptr);
    }
}
