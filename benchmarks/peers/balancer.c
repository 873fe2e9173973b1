/* A load balancer that knows nothing of SIP: each datagram goes to the next node, whatever it belongs to.
 *
 *   balancer HOST PORT NODE NODE...
 *
 * The nodes are addresses that listen on PORT too. The address of a client is kept, its port is not: responses to who has no
 * `rport` in its Via go straight to the client (RFC 3261, 18.2.2), as behind every balancer through which such a client works
 * at all. Each client has a socket towards the nodes; what comes to that one goes back to it from HOST and PORT. It says
 * "ready" and runs until SIGTERM. Loopback only: no other address could be kept without privileges.
 */

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CLIENTS_MAX 256 /* SIPp and the probe are one each, in every run */
#define NODES_MAX 16
#define EVENTS_AT_ONCE 64
#define DATAGRAM_BYTES 65536
#define BUFFER_BYTES (4 * 1024 * 1024)

struct client {
    struct sockaddr_in address;
    int back;
};

static struct client clients[CLIENTS_MAX];
static struct sockaddr_in nodes[NODES_MAX];
static int client_count, node_count, next_node, front, epoll;
static char datagram[DATAGRAM_BYTES];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in address_of(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        fail(host);
    return address;
}

/* `client` is NULL for the front. */
static int open_socket(struct sockaddr_in address, struct client *client) {
    struct epoll_event watched = {.events = EPOLLIN, .data.ptr = client};
    int made = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), bytes = BUFFER_BYTES;

    if (made < 0)
        fail("socket");
    setsockopt(made, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes); /* as much of it as we are granted */
    if (bind(made, (void *)&address, sizeof address) < 0)
        fail("bind");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, made, &watched) < 0)
        fail("epoll_ctl");
    return made;
}

static struct client *client_at(const struct sockaddr_in *address) {
    for (int each = client_count - 1; each >= 0; each--)
        if (clients[each].address.sin_port == address->sin_port &&
            clients[each].address.sin_addr.s_addr == address->sin_addr.s_addr)
            return &clients[each];
    if (client_count == CLIENTS_MAX) {
        fputs("too many clients\n", stderr);
        exit(1);
    }
    struct client *made = &clients[client_count++];
    struct sockaddr_in as = *address;
    as.sin_port = 0;
    made->address = *address;
    made->back = open_socket(as, made);
    return made;
}

static void pass_on(void) {
    struct sockaddr_in source;
    socklen_t size = sizeof source;
    ssize_t length;

    while ((length = recvfrom(front, datagram, sizeof datagram, 0, (void *)&source, &size)) >= 0) {
        struct sockaddr_in *node = &nodes[next_node];
        next_node = (next_node + 1) % node_count;
        sendto(client_at(&source)->back, datagram, (size_t)length, 0, (void *)node, sizeof *node);
    }
}

static void pass_back(struct client *client) {
    ssize_t length;

    while ((length = recv(client->back, datagram, sizeof datagram, 0)) >= 0)
        sendto(front, datagram, (size_t)length, 0, (void *)&client->address, sizeof client->address);
}

int main(int count, char **arguments) {
    struct epoll_event ready[EVENTS_AT_ONCE];

    if (count < 4 || count - 3 > NODES_MAX)
        return 2;
    int port = atoi(arguments[2]);
    for (int each = 3; each < count; each++)
        nodes[node_count++] = address_of(arguments[each], port);
    epoll = epoll_create1(0);
    if (epoll < 0)
        fail("epoll_create1");
    front = open_socket(address_of(arguments[1], port), NULL);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int found = epoll_wait(epoll, ready, EVENTS_AT_ONCE, -1);
        for (int each = 0; each < found; each++)
            if (ready[each].data.ptr == NULL)
                pass_on();
            else
                pass_back(ready[each].data.ptr);
    }
}
