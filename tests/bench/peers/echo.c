/* The C peer: echoes in batches of 64; with "gro" put together and cut again. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, MAX = 65536 };

int main(int count, char **args) {
  static unsigned char data[BATCH][MAX], in[BATCH][64], out[BATCH][64];
  struct mmsghdr m[BATCH] = {0};
  struct iovec v[BATCH];
  struct sockaddr_in names[BATCH], at = {.sin_family = AF_INET};
  int fd = socket(AF_INET, SOCK_DGRAM, 0), one = 1, bytes = 4 << 20;
  int gro = count > 2 && strcmp(args[2], "gro") == 0;
  at.sin_port = htons(atoi(args[1]));
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  if (gro) setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one);
  if (bind(fd, (void *)&at, sizeof at) < 0) { perror("bind"); return 1; }
  for (;;) {
    for (int i = 0; i < BATCH; i++) {
      v[i] = (struct iovec){data[i], MAX};
      m[i].msg_hdr = (struct msghdr){
          .msg_name = &names[i], .msg_namelen = sizeof names[i],
          .msg_iov = &v[i], .msg_iovlen = 1,
          .msg_control = gro ? in[i] : 0, .msg_controllen = gro ? 64 : 0};
    }
    int n = recvmmsg(fd, m, BATCH, MSG_WAITFORONE, 0);
    for (int i = 0; i < n; i++) {
      struct cmsghdr *c = CMSG_FIRSTHDR(&m[i].msg_hdr);
      int segment = c && c->cmsg_type == UDP_GRO ? *(int *)CMSG_DATA(c) : 0;
      v[i].iov_len = m[i].msg_len;
      m[i].msg_hdr.msg_control = 0;
      m[i].msg_hdr.msg_controllen = 0;
      if (segment == 0 || segment >= (int)m[i].msg_len) continue;
      m[i].msg_hdr.msg_control = out[i];
      m[i].msg_hdr.msg_controllen = CMSG_SPACE(2);
      c = CMSG_FIRSTHDR(&m[i].msg_hdr);
      c->cmsg_level = SOL_UDP;
      c->cmsg_type = UDP_SEGMENT;
      c->cmsg_len = CMSG_LEN(2);
      *(unsigned short *)CMSG_DATA(c) = segment;
    }
    for (int sent = 0; sent < n;) {
      int k = sendmmsg(fd, m + sent, n - sent, 0);
      sent += k > 0 ? k : 1;
    }
  }
}
