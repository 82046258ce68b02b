/* system: what Linux has and macOS lacks, in one place (and in fleet/lock.c). It compiles for macOS
 * and was never run there. */
#ifndef MC_SYSTEM_H
#define MC_SYSTEM_H

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef POLLRDHUP
#define POLLRDHUP 0 /* a peer that has gone is one with something to read */
#endif

/* A stream that programs started from here do not inherit, and that does not wait; -1 and errno. */
static inline int mc_stream_socket(int family)
{
#ifdef SOCK_CLOEXEC
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
    int on = 1, fd = socket(family, SOCK_STREAM, 0);

    if (fd >= 0 && (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
                    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
#endif
}

#endif
