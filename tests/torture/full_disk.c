/* A disk that is full from the Nth change on: for every program, whatever library writes.
 *
 * LD_PRELOAD it. FULL_DISK_AT=N and FULL_DISK_IN=/folder: the Nth call that changes something in
 * that folder, and all after it, fail with ENOSPC. FULL_DISK_ONCE=1: only the Nth does.
 * FULL_DISK_TOLD=/file is made when one does. FULL_DISK_COUNT=/file, of 8 zero bytes, is where all
 * processes of a run count together.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

static atomic_long *passages;

static void open_count(void) {
    int file = REAL(open)(getenv("FULL_DISK_COUNT"), O_RDWR | O_CLOEXEC);
    passages = mmap(NULL, sizeof *passages, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REAL(close)(file);
}

static int full(const char *path) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *wish = getenv("FULL_DISK_AT"), *folder = getenv("FULL_DISK_IN");
    if (!wish || !folder || !path || strncmp(path, folder, strlen(folder))) return 0;
    pthread_once(&once, open_count);
    long at = atol(wish), now = atomic_fetch_add(passages, 1) + 1;
    if (now != at && (now < at || getenv("FULL_DISK_ONCE"))) return 0;
    const char *told = getenv("FULL_DISK_TOLD");
    if (told) close(creat(told, 0666));
    errno = ENOSPC;
    return 1;
}

static int full_file(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return full(path);
}

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...) {                        \
        va_list more;                                                   \
        va_start(more, flags);                                          \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;       \
        va_end(more);                                                   \
        if (flags & O_CREAT && full(path)) return -1;                   \
        return REAL(name)(path, flags, mode);                           \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int file, const void *data, size_t size) {
    if (full_file(file)) return -1;
    return REAL(write)(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    if (full_file(file)) return -1;
    return REAL(pwrite)(file, data, size, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    if (full_file(file)) return -1;
    return REAL(pwrite64)(file, data, size, at);
}

int fsync(int file) { return full_file(file) ? -1 : REAL(fsync)(file); }

int mkdir(const char *path, mode_t mode) { return full(path) ? -1 : REAL(mkdir)(path, mode); }

int rename(const char *from, const char *to) { return full(to) ? -1 : REAL(rename)(from, to); }

int link(const char *from, const char *to) { return full(to) ? -1 : REAL(link)(from, to); }
