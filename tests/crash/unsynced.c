/* Preloaded into a server: keeps account of what it has written and not yet synced, so that a test can take it away.
 *
 * For each file below UNSYNCED_FOLDER that is written, UNSYNCED_RECORDS gets a file named by its inode with a record per
 * write since the last fsync or fdatasync of it: five 64-bit numbers (place, bytes written, bytes that were there,
 * the file's size before, whether it was cut), then the bytes that were there, then those written.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 4096

static ino_t watched[MOST]; /* by descriptor; 0: not ours */

static int records(int fd, int flags)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/%lu", getenv("UNSYNCED_RECORDS"), (unsigned long)watched[fd]);
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_WRONLY | O_CLOEXEC, 0600);
}

static void synced(int fd)
{
    int to;

    if (fd < 0 || fd >= MOST || watched[fd] == 0)
        return;
    to = records(fd, O_TRUNC);
    if (to >= 0)
        syscall(SYS_close, to);
}

static void watch(int fd)
{
    const char *folder = getenv("UNSYNCED_FOLDER");
    char link[64], path[4096];
    struct stat status;
    ssize_t size;

    if (fd < 0 || fd >= MOST || folder == NULL)
        return;
    watched[fd] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (size <= 0)
        return;
    path[size] = 0;
    if (strncmp(path, folder, strlen(folder)) == 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        strcmp(path + size - 4, "-shm") != 0) /* is made anew from the write-ahead log */
        watched[fd] = status.st_ino;
    if (watched[fd] != 0 && status.st_size == 0)
        synced(fd); /* a new file may have the number of one that is gone */
}

static void note(int fd, const void *data, uint64_t size, uint64_t place, uint64_t cut)
{
    struct stat status;
    uint64_t head[5];
    struct iovec parts[3];
    uint64_t old, end = cut ? UINT64_MAX : place + size;
    char *before;
    int to;

    if (fd < 0 || fd >= MOST || watched[fd] == 0 || fstat(fd, &status) != 0)
        return;
    if (end > (uint64_t)status.st_size)
        end = status.st_size;
    old = end > place ? end - place : 0;
    before = malloc(old + 1);
    if (before == NULL || (old && syscall(SYS_pread64, fd, before, old, place) != (long)old))
        abort();
    head[0] = place, head[1] = size, head[2] = old, head[3] = status.st_size, head[4] = cut;
    parts[0].iov_base = head, parts[0].iov_len = sizeof head;
    parts[1].iov_base = before, parts[1].iov_len = old;
    parts[2].iov_base = (void *)data, parts[2].iov_len = size;
    to = records(fd, O_CREAT | O_APPEND);
    if (to < 0 || syscall(SYS_writev, to, parts, 3) != (long)(sizeof head + old + size))
        abort();
    syscall(SYS_close, to);
    free(before);
}

static int opened(int folder, const char *path, int flags, mode_t mode)
{
    int fd = syscall(SYS_openat, folder, path, flags, mode);

    watch(fd);
    return fd;
}

#define MODE(flags)                                                                                                    \
    ({                                                                                                                 \
        va_list rest;                                                                                                  \
        mode_t mode = 0;                                                                                               \
        va_start(rest, flags);                                                                                         \
        if ((flags) & (O_CREAT | O_TMPFILE))                                                                           \
            mode = va_arg(rest, mode_t);                                                                               \
        va_end(rest);                                                                                                  \
        mode;                                                                                                          \
    })

int open(const char *path, int flags, ...) { return opened(AT_FDCWD, path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return opened(AT_FDCWD, path, flags, MODE(flags)); }
int openat(int folder, const char *path, int flags, ...) { return opened(folder, path, flags, MODE(flags)); }
int openat64(int folder, const char *path, int flags, ...) { return opened(folder, path, flags, MODE(flags)); }

int close(int fd)
{
    if (fd >= 0 && fd < MOST)
        watched[fd] = 0;
    return syscall(SYS_close, fd);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place)
{
    note(fd, data, size, place, 0);
    return syscall(SYS_pwrite64, fd, data, size, place);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t place) { return pwrite64(fd, data, size, place); }

ssize_t write(int fd, const void *data, size_t size)
{
    if (fd >= 0 && fd < MOST && watched[fd] != 0) {
        struct stat status;
        int append = fcntl(fd, F_GETFL) & O_APPEND;
        fstat(fd, &status);
        note(fd, data, size, append ? status.st_size : lseek(fd, 0, SEEK_CUR), 0);
    }
    return syscall(SYS_write, fd, data, size);
}

int ftruncate64(int fd, off64_t size)
{
    note(fd, NULL, 0, size, 1);
    return syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fsync(int fd)
{
    int done = syscall(SYS_fsync, fd);

    if (done == 0)
        synced(fd);
    return done;
}

int fdatasync(int fd)
{
    int done = syscall(SYS_fdatasync, fd);

    if (done == 0)
        synced(fd);
    return done;
}
