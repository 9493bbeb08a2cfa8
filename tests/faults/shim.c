/* A disk that can be cut off: an LD_PRELOAD shim over fsync and fdatasync.
 *
 * What is under SHIM_ROOT and was synced is copied to SHIM_IMAGE: the bytes of a file as `f-<inode>-<birth>`, the names
 * in a folder as `d-<inode>-<birth>` (lines `inode-birth kind name`). The inode and the time it was born name a file, so
 * that neither rename, unlink nor a reused inode has to be caught. What was not synced is in no copy: that is what a
 * power loss may take. The test puts a tree together from the copies and starts the daemon on it.
 *
 * SHIM_KEEP=n    only each nth sync is done, the others only say so (the control: this must lose something)
 * SHIM_FAIL_AT=n the nth sync of a file whose path holds SHIM_MATCH fails with EIO
 * SHIM_LOG=path  a line `pid result path` for each sync
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long seen, matched;

static int identity(int folder, const char *name, int flags, char *out, size_t room, mode_t *kind)
{
    struct statx found;
    if (statx(folder, name, flags | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME | STATX_TYPE, &found) != 0) return -1;
    snprintf(out, room, "%llu-%lld.%09u", (unsigned long long)found.stx_ino, (long long)found.stx_btime.tv_sec,
             found.stx_btime.tv_nsec);
    *kind = found.stx_mode & S_IFMT;
    return 0;
}

static int copy_file(int from, int to)
{
    static char chunk[1 << 20];
    off_t offset = 0;
    for (;;) {
        ssize_t count = pread(from, chunk, sizeof chunk, offset);
        if (count < 0) return -1;
        if (count == 0) return 0;
        for (ssize_t done = 0; done < count;) {
            ssize_t put = write(to, chunk + done, count - done);
            if (put < 0) return -1;
            done += put;
        }
        offset += count;
    }
}

static int copy_names(int from, int to)
{
    char own[64];
    mode_t kind;
    int again = openat(from, ".", O_RDONLY | O_DIRECTORY);
    DIR *folder = again < 0 ? NULL : fdopendir(again);
    if (folder == NULL) return -1;
    for (struct dirent *each; (each = readdir(folder)) != NULL;) {
        if (strcmp(each->d_name, ".") == 0 || strcmp(each->d_name, "..") == 0) continue;
        if (identity(again, each->d_name, 0, own, sizeof own, &kind) == 0)
            dprintf(to, "%s %c %s\n", own, kind == S_IFDIR ? 'd' : 'f', each->d_name);
    }
    closedir(folder);
    return 0;
}

/* Copy what is synced; written aside and renamed, because the process may be killed in it. */
static int keep(int fd, const char *image)
{
    char own[64], target[PATH_MAX], aside[PATH_MAX + 16];
    mode_t kind;
    int to, path_only, result = -1;
    if (identity(fd, "", AT_EMPTY_PATH, own, sizeof own, &kind) != 0) return -1;
    snprintf(target, sizeof target, "%s/%c-%s", image, kind == S_IFDIR ? 'd' : 'f', own);
    snprintf(aside, sizeof aside, "%s.%d", target, (int)getpid());
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    path_only = open(own, O_RDONLY | (kind == S_IFDIR ? O_DIRECTORY : 0)); /* the caller's may be write-only */
    if (path_only < 0) return -1;
    to = open(aside, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (to >= 0) {
        result = kind == S_IFDIR ? copy_names(path_only, to) : copy_file(path_only, to);
        close(to);
        if (result == 0) result = rename(aside, target);
    }
    close(path_only);
    return result;
}

static void note(const char *result, const char *path)
{
    const char *log = getenv("SHIM_LOG");
    int fd = log == NULL ? -1 : open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0) return;
    dprintf(fd, "%d %s %s\n", (int)getpid(), result, path);
    close(fd);
}

static int synced(int fd)
{
    const char *root = getenv("SHIM_ROOT"), *image = getenv("SHIM_IMAGE"), *keep_every = getenv("SHIM_KEEP");
    const char *fail_at = getenv("SHIM_FAIL_AT"), *match = getenv("SHIM_MATCH");
    char link[64], path[PATH_MAX];
    int result = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) { errno = EBADF; return -1; }
    path[length] = 0;
    if (root == NULL || strncmp(path, root, strlen(root)) != 0) return 0;
    pthread_mutex_lock(&lock);
    seen++;
    if (match == NULL || strstr(path, match) != NULL) matched++;
    else fail_at = NULL;
    if (fail_at != NULL && matched == atol(fail_at)) {
        note("EIO", path);
        result = -1;
    } else if (keep_every != NULL && seen % atol(keep_every) != 0) {
        note("ignored", path);
    } else {
        if (image != NULL) result = keep(fd, image);
        note(result == 0 ? "ok" : "failed", path);
    }
    pthread_mutex_unlock(&lock);
    if (result != 0) errno = EIO;
    return result;
}

int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }
