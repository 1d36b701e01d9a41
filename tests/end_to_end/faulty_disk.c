/* A disk that is slow, stands still or fails, below one folder: loaded into a process by LD_PRELOAD.

   FAULTY_DISK       a file with `struct control`, shared with the test that steers it
   FAULTY_DISK_BELOW the folder, an absolute path without links */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* In the order of FaultyDisk's fields. */
struct control {
    volatile int32_t sync_ms;      /* what a sync takes */
    volatile int32_t hold;         /* syncs do not end while this is not 0 */
    volatile int32_t write_error;  /* errno of all that changes a file; 0: none */
    volatile int32_t sync_error;   /* errno of a sync; 0: none */
    volatile int32_t syncs;        /* how many have ended */
    volatile int32_t held;         /* how many stand still now */
};

static struct control *control;
static const char *below;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAULTY_DISK");
    below = getenv("FAULTY_DISK_BELOW");
    if (!name || !below) return;
    int file = open(name, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED) control = at;
}

static int is_ours(int file) {
    char link[64], path[PATH_MAX];
    if (!control) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t wanted = strlen(below);
    return length > (ssize_t)wanted && !memcmp(path, below, wanted) && path[wanted] == '/';
}

static void pause_ms(int ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) && errno == EINTR) {
    }
}

/* Whether the change may happen; else errno says why not. */
static int changing(int file) {
    if (!control || !control->write_error || !is_ours(file)) return 1;
    errno = control->write_error;
    return 0;
}

static int syncing(int file, int (*real)(int)) {
    if (!is_ours(file)) return real(file);
    __atomic_add_fetch(&control->held, 1, __ATOMIC_SEQ_CST);
    while (control->hold) pause_ms(1);
    __atomic_sub_fetch(&control->held, 1, __ATOMIC_SEQ_CST);
    pause_ms(control->sync_ms);
    int done = -1;
    if (control->sync_error) errno = control->sync_error;
    else done = real(file);
    int error = errno;
    __atomic_add_fetch(&control->syncs, 1, __ATOMIC_SEQ_CST);
    errno = error;
    return done;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int file) { return syncing(file, REAL(fsync)); }
int fdatasync(int file) { return syncing(file, REAL(fdatasync)); }

ssize_t write(int file, const void *data, size_t size) {
    return changing(file) ? REAL(write)(file, data, size) : -1;
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    return changing(file) ? REAL(pwrite)(file, data, size, at) : -1;
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    return changing(file) ? REAL(pwrite64)(file, data, size, at) : -1;
}
int ftruncate(int file, off_t size) { return changing(file) ? REAL(ftruncate)(file, size) : -1; }
int ftruncate64(int file, off64_t size) { return changing(file) ? REAL(ftruncate64)(file, size) : -1; }
