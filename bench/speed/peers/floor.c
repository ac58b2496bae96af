/* No peer but a measure: the least that any program can do on this kernel with epoll. It reads no HTTP, checks nothing and
 * writes ready-made bytes: small ones by one send, large ones by a send of the header and sendfile of pages that lie in memory.
 *
 * floor PORT PAGED_FROM_BYTES < bodies     each body a file's path by which it is asked and the file that holds it, a line
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_BODIES 16
#define MOST_EVENTS 256

struct answer {
  char path[256];
  char *joined; /* header and body */
  size_t head, size;
  int pages; /* memfd of the body */
};

struct connection {
  int socket, waits;
  const struct answer *answer;
  size_t sent;
};

static struct answer answers[MOST_BODIES];
static int answers_known, epoll;
static size_t paged_from;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void read_bodies(void) {
  char path[250], file[1024];
  while (answers_known < MOST_BODIES && scanf("%249s %1023s", path, file) == 2) {
    struct answer *one = &answers[answers_known++];
    FILE *body = fopen(file, "rb");
    if (!body) fail(file);
    fseek(body, 0, SEEK_END);
    size_t length = ftell(body);
    rewind(body);
    sprintf(one->path, "%s ", path);
    one->joined = malloc(length + 1024);
    int at = sprintf(one->joined, "HTTP/1.1 200 OK\r\n");
    for (int field = 0; field < 9; field++)
      at += sprintf(one->joined + at, "Field-%d: as many bytes as a header of ours has\r\n", field);
    one->head = at + sprintf(one->joined + at, "Content-Length: %zu\r\n\r\n", length);
    one->size = one->head + length;
    if (fread(one->joined + one->head, 1, length, body) != length) fail(file);
    fclose(body);
    one->pages = memfd_create("body", 0);
    for (size_t done = 0; done < length;) {
      ssize_t count = write(one->pages, one->joined + one->head + done, length - done);
      if (count < 0) fail("write");
      done += count;
    }
  }
}

static ssize_t send_some(const struct connection *one) {
  const struct answer *answer = one->answer;
  size_t left = answer->size - one->sent;
  if (answer->size - answer->head < paged_from) return send(one->socket, answer->joined + one->sent, left, MSG_NOSIGNAL);
  if (one->sent < answer->head)
    return send(one->socket, answer->joined + one->sent, answer->head - one->sent, MSG_NOSIGNAL | MSG_MORE);
  off_t from = one->sent - answer->head;
  return sendfile(one->socket, answer->pages, &from, left);
}

static void wait_for(struct connection *one, int writable) {
  if (one->waits == writable) return;
  struct epoll_event event = {.events = writable ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = one};
  one->waits = writable;
  epoll_ctl(epoll, EPOLL_CTL_MOD, one->socket, &event);
}

/* Whether the connection goes on. */
static int go_on(struct connection *one) {
  while (one->sent < one->answer->size) {
    ssize_t count = send_some(one);
    if (count < 0) {
      if (errno == EAGAIN) wait_for(one, 1);
      return errno == EAGAIN;
    }
    one->sent += count;
  }
  wait_for(one, 0);
  return 1;
}

/* Every request of a connection is taken for the same as its first. Whether the connection goes on. */
static int read_request(struct connection *one) {
  static char request[65536];
  ssize_t count = recv(one->socket, request, sizeof request - 1, 0);
  if (count <= 0) return count < 0 && errno == EAGAIN;
  request[count] = 0;
  for (int known = 0; !one->answer && known < answers_known; known++)
    if (count > 4 && !strncmp(request + 4, answers[known].path, strlen(answers[known].path))) one->answer = &answers[known];
  if (!one->answer) return 0;
  one->sent = 0;
  return go_on(one);
}

static void accept_one(int listener) {
  int socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
  if (socket < 0) return;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct connection *one = calloc(1, sizeof *one);
  one->socket = socket;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
  epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event);
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  signal(SIGPIPE, SIG_IGN); /* sendfile has no flag for it */
  paged_from = atol(arguments[2]);
  read_bodies();
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons(atoi(arguments[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
  epoll = epoll_create1(0);
  struct epoll_event accepting = {.events = EPOLLIN, .data.ptr = NULL}, events[MOST_EVENTS];
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &accepting);
  for (;;) {
    int ready = epoll_wait(epoll, events, MOST_EVENTS, -1);
    for (int number = 0; number < ready; number++) {
      struct connection *one = events[number].data.ptr;
      if (!one) {
        accept_one(listener);
        continue;
      }
      int unsent = one->answer && one->sent < one->answer->size;
      if (unsent ? !go_on(one) : !read_request(one)) {
        close(one->socket);
        free(one);
      }
    }
  }
}
