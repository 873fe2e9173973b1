/* The load of W3: phones that talk, and count what they hear.
 *
 *   talk HOST FIRST_PORT SECONDS CALLS
 *
 * CALLS is a file, each line of it a call: host and port of the relay for its first phone, and for its second. A phone is one
 * of PHONES sockets, at HOST and FIRST_PORT + 2n: call number n has the phones n and n + PHONES / 2, modulo PHONES / 2. Each
 * leg sends G.711 as RTP, 172 bytes each 20 ms; the calls are spread over these. After a second, in which addresses are
 * learned, it says "counting"; at the end, in one line: packets sent, packets heard, how long they took at the median and
 * the 99th percentile in microseconds, and by how many milliseconds it fell behind its own clock at worst.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PHONES 64 /* many: what one socket may hold back is bounded, and so is how long we may be away */
#define TICKS 20  /* of a millisecond, in which every phone speaks once */
#define BATCH 64
#define PACKET_BYTES 172
#define LEGS_MAX 20000
#define SLOTS 100000 /* of a microsecond, for the time that a packet took */
#define LEARNING_TICKS 1000
#define LINGER_TICKS 500

struct packet {
    unsigned char first, second;
    uint16_t sequence;
    uint32_t timestamp, ssrc;
    uint64_t sent_at; /* nanoseconds; 0: not counted */
    unsigned char rest[PACKET_BYTES - 20];
} __attribute__((packed));

struct turn { /* the legs of one phone that speak in one tick */
    int count;
    int *legs;
};

static int phones[PHONES];
static struct sockaddr_in relays[LEGS_MAX];
static struct turn turns[TICKS][PHONES];
static uint64_t sent, heard, took[SLOTS];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int phone_of(int leg) {
    return (leg / 2) % (PHONES / 2) + (leg % 2) * (PHONES / 2);
}

static void listen_to(int phone) {
    static struct packet packets[BATCH];
    static struct iovec pieces[BATCH];
    static struct mmsghdr messages[BATCH];
    int found;

    do {
        for (int each = 0; each < BATCH; each++) {
            pieces[each] = (struct iovec){&packets[each], sizeof packets[each]};
            messages[each].msg_hdr = (struct msghdr){.msg_iov = &pieces[each], .msg_iovlen = 1};
        }
        found = recvmmsg(phone, messages, BATCH, MSG_DONTWAIT, NULL);
        uint64_t came_at = now();
        for (int each = 0; each < found; each++) {
            if (messages[each].msg_len != PACKET_BYTES || packets[each].sent_at == 0 || packets[each].sent_at > came_at)
                continue; /* of the first second, or a keep-alive */
            uint64_t microseconds = (came_at - packets[each].sent_at) / 1000;
            took[microseconds < SLOTS ? microseconds : SLOTS - 1]++;
            heard++;
        }
    } while (found == BATCH);
}

static void take_turns(int legs) {
    for (int leg = 0; leg < legs; leg++) {
        struct turn *turn = &turns[leg / 2 % TICKS][phone_of(leg)];
        turn->legs = realloc(turn->legs, (size_t)(turn->count + 1) * sizeof *turn->legs);
        if (turn->legs == NULL)
            fail("realloc");
        turn->legs[turn->count++] = leg;
    }
}

static void speak(int phone, const struct turn *turn, uint32_t round, int counted) {
    static struct packet packets[BATCH];
    static struct iovec pieces[BATCH];
    static struct mmsghdr messages[BATCH];

    for (int done = 0; done < turn->count;) {
        int batch = turn->count - done < BATCH ? turn->count - done : BATCH;
        for (int each = 0; each < batch; each++) {
            int leg = turn->legs[done + each];
            packets[each] = (struct packet){
                .first = 0x80,
                .sequence = htons((uint16_t)round),
                .timestamp = htonl(round * 160),
                .ssrc = htonl((uint32_t)leg + 1),
                .sent_at = counted ? now() : 0,
            };
            pieces[each] = (struct iovec){&packets[each], sizeof packets[each]};
            messages[each].msg_hdr = (struct msghdr){
                .msg_iov = &pieces[each], .msg_iovlen = 1, .msg_name = &relays[leg], .msg_namelen = sizeof relays[leg]};
        }
        if (sendmmsg(phones[phone], messages, (unsigned)batch, 0) != batch)
            fail("sendmmsg");
        if (counted)
            sent += (uint64_t)batch;
        done += batch;
    }
}

static int percentile(double share) {
    uint64_t wanted = (uint64_t)((double)heard * share), so_far = 0;
    for (int slot = 0; slot < SLOTS; slot++)
        if ((so_far += took[slot]) > wanted)
            return slot;
    return SLOTS;
}

static int read_calls(const char *path) {
    char host[16];
    int port, legs = 0;
    FILE *calls = fopen(path, "r");
    if (calls == NULL)
        fail(path);
    for (; legs < LEGS_MAX && fscanf(calls, "%15s %d", host, &port) == 2; legs++) {
        relays[legs].sin_family = AF_INET;
        relays[legs].sin_port = htons((uint16_t)port);
        inet_pton(AF_INET, host, &relays[legs].sin_addr);
    }
    fclose(calls);
    return legs;
}

int main(int count, char **arguments) {
    struct epoll_event ready[PHONES];

    if (count != 5)
        return 2;
    int epoll = epoll_create1(0), legs = read_calls(arguments[4]), bytes = 4 * 1024 * 1024;
    for (int each = 0; each < PHONES; each++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(atoi(arguments[2]) + 2 * each))};
        struct epoll_event watched = {.events = EPOLLIN, .data.fd = phones[each] = socket(AF_INET, SOCK_DGRAM, 0)};
        inet_pton(AF_INET, arguments[1], &address.sin_addr);
        setsockopt(phones[each], SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes); /* as much of it as we are granted */
        if (bind(phones[each], (void *)&address, sizeof address) < 0)
            fail("bind");
        epoll_ctl(epoll, EPOLL_CTL_ADD, phones[each], &watched);
    }
    take_turns(legs);
    uint64_t began = now(), behind = 0;
    for (uint32_t ticks = (uint32_t)atoi(arguments[3]) * 1000, tick = 0; tick < ticks + LINGER_TICKS; tick++) {
        uint64_t due = began + (tick + 1) * 1000000ull, time;
        if (tick == LEARNING_TICKS) {
            puts("counting");
            fflush(stdout);
        }
        if (tick < ticks)
            for (int phone = 0; phone < PHONES; phone++)
                speak(phone, &turns[tick % TICKS][phone], tick / TICKS, tick >= LEARNING_TICKS);
        do {
            time = now();
            int found = epoll_wait(epoll, ready, PHONES, time < due ? (int)((due - time + 999999) / 1000000) : 0);
            for (int each = 0; each < found; each++)
                listen_to(ready[each].data.fd);
        } while ((time = now()) < due);
        if (time - due > behind)
            behind = time - due;
    }
    printf("%llu %llu %d %d %llu\n", (unsigned long long)sent, (unsigned long long)heard, percentile(0.5), percentile(0.99),
           (unsigned long long)behind / 1000000);
    return 0;
}
