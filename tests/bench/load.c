/*
 * The load generator: so many requests in flight, each answered by one more,
 * for so many seconds. Every reply is counted and compared with its request.
 *
 *   load PORT WINDOW SIZE FLOWS SECONDS [PID]
 *
 * FLOWS is 1 (one socket, batches of 64), 0 (one socket, UDP_SEGMENT and
 * UDP_GRO), or as many as WINDOW (a socket each, one request in flight on each;
 * with more than 1,000 also a /24 network each). Prints one line of JSON. The processor time of
 * a reply is that of process PID, or of this one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, MAX = 65536, SAMPLES = 1 << 20, RING = 1 << 16, PATIENCE_MS = 20 };

static uint64_t sequence, replies, lost, wrong;
static unsigned char outstanding[RING];
static float samples[SAMPLES];
static long sampled;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* The processor time of a process, in microseconds. */
static double processor(int pid) {
  struct timespec t = {0};
  clockid_t clock;
  if (clock_getcpuclockid(pid, &clock) == 0) clock_gettime(clock, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* A request: its number, and bytes that follow from the number. */
static void fill(unsigned char *p, int size) {
  uint64_t s = sequence++;
  outstanding[s % RING] = 1;
  memcpy(p, &s, 8);
  memset(p + 8, (int)(s * 31 & 255), size - 8);
}

static void check(const unsigned char *p, int length, int size) {
  uint64_t s;
  memcpy(&s, p, 8);
  if (length != size || s >= sequence || !outstanding[s % RING] ||
      p[8] != (s * 31 & 255) || p[size - 1] != (s * 31 & 255)) {
    wrong++;
    return;
  }
  outstanding[s % RING] = 0;
  replies++;
}

static int open_socket(int port, struct sockaddr_in *from) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0), bytes = from ? 1 << 16 : 8 << 20;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct timeval wait = {0, 200000};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  if (fd < 0 || (from && bind(fd, (void *)from, sizeof *from) < 0) ||
      connect(fd, (void *)&to, sizeof to) < 0) {
    perror("socket");
    exit(1);
  }
  return fd;
}

static void lose(int *in_flight) {
  lost += *in_flight;
  *in_flight = 0;
  memset(outstanding, 0, sizeof outstanding);
}

static void one_flow(int port, int window, int size, double end) {
  static unsigned char out[BATCH][MAX], in[BATCH][MAX];
  struct mmsghdr m[BATCH] = {0}, r[BATCH] = {0};
  struct iovec mv[BATCH], rv[BATCH];
  int fd = open_socket(port, 0), in_flight = 0;
  for (int i = 0; i < BATCH; i++) {
    mv[i] = (struct iovec){out[i], size};
    rv[i] = (struct iovec){in[i], MAX};
    m[i].msg_hdr.msg_iov = &mv[i];
    r[i].msg_hdr.msg_iov = &rv[i];
    m[i].msg_hdr.msg_iovlen = r[i].msg_hdr.msg_iovlen = 1;
  }
  while (now() < end) {
    double sent = now();
    while (in_flight < window) {
      int n = window - in_flight < BATCH ? window - in_flight : BATCH;
      for (int i = 0; i < n; i++) fill(out[i], size);
      n = sendmmsg(fd, m, n, 0);
      if (n < 1) break; /* the peer is gone: what is in flight is lost */
      in_flight += n;
    }
    int n = recvmmsg(fd, r, BATCH, MSG_WAITFORONE, 0);
    if (n < 1) { lose(&in_flight); continue; }
    for (int i = 0; i < n; i++) check(in[i], r[i].msg_len, size);
    in_flight -= n < in_flight ? n : in_flight;
    if (window == 1 && sampled < SAMPLES) samples[sampled++] = (now() - sent) * 1e6;
  }
}

static void segmented_flow(int port, int window, int size, double end) {
  static unsigned char out[MAX], in[MAX];
  int fd = open_socket(port, 0), in_flight = 0, one = 1;
  int batch = 65000 / size < BATCH ? 65000 / size : BATCH;
  if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, &size, sizeof size) ||
      setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one)) {
    perror("UDP_SEGMENT");
    exit(1);
  }
  while (now() < end) {
    while (in_flight == 0 || in_flight + batch <= window) {
      for (int i = 0; i < batch; i++) fill(out + i * size, size);
      if (send(fd, out, batch * size, 0) < 0) break;
      in_flight += batch;
    }
    int n = recv(fd, in, MAX, 0);
    if (n < 0) { lose(&in_flight); continue; }
    for (int at = 0; at < n; at += size) {
      check(in + at, n - at < size ? n - at : size, size);
      if (in_flight > 0) in_flight--;
    }
  }
}

static void ask(int fd, int size, double *asked) {
  static unsigned char out[MAX];
  fill(out, size);
  if (send(fd, out, size, 0) < 0) wrong++;
  *asked = now();
}

static void many_flows(int port, int flows, int size, double end) {
  static unsigned char in[MAX];
  struct epoll_event ready[BATCH];
  int *fds = malloc(flows * sizeof *fds), epoll = epoll_create1(0);
  double *asked = malloc(flows * sizeof *asked), looked = now();
  for (int i = 0; i < flows; i++) {
    struct epoll_event on = {.events = EPOLLIN, .data.u32 = i};
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (i + 1) * 256);
    fds[i] = open_socket(port, flows > 1000 ? &from : 0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &on);
    ask(fds[i], size, &asked[i]);
  }
  while (now() < end) {
    int n = epoll_wait(epoll, ready, BATCH, PATIENCE_MS);
    for (int k = 0; k < n; k++) {
      int i = ready[k].data.u32, length = recv(fds[i], in, MAX, 0);
      if (length < 0) continue;
      check(in, length, size);
      ask(fds[i], size, &asked[i]);
    }
    if (now() - looked < PATIENCE_MS / 1e3) continue;
    looked = now();
    for (int i = 0; i < flows; i++) {
      if (looked - asked[i] < PATIENCE_MS / 1e3) continue;
      lost++;
      ask(fds[i], size, &asked[i]);
    }
  }
}

static int ascending(const void *a, const void *b) {
  float d = *(const float *)a - *(const float *)b;
  return d < 0 ? -1 : d > 0;
}

int main(int count, char **args) {
  if (count != 6 && count != 7) return 2;
  int port = atoi(args[1]), window = atoi(args[2]), size = atoi(args[3]);
  int flows = atoi(args[4]), pid = count > 6 ? atoi(args[6]) : 0;
  double used = processor(pid);
  double seconds = atof(args[5]), start = now(), end = start + seconds;
  if (flows == 0) segmented_flow(port, window, size, end);
  else if (flows == 1) one_flow(port, window, size, end);
  else many_flows(port, flows, size, end);
  seconds = now() - start;
  used = processor(pid) - used;
  qsort(samples, sampled, sizeof *samples, ascending);
  printf("{\"repliesPerSecond\":%.0f,\"lost\":%lu,\"wrong\":%lu,",
         replies / seconds, (unsigned long)lost, (unsigned long)wrong);
  if (replies > 0) printf("\"cpuUs\":%.4f,", used / replies);
  printf("\"medianUs\":");
  if (sampled > 0) printf("%.2f}\n", samples[sampled / 2]);
  else printf("null}\n");
  return 0;
}
