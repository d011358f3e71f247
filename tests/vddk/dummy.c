/* A libvixDiskLib for tests: a disk is a raw file, and it can be told to misbehave.
 *
 * Faults: the file "<disk>.fault" holds lines "<call> <what>": segv, exit, hang, thumb, nfc, or a
 * number that is returned. Calls: open, read, write, flush, blocks, close.
 * A disk whose path contains "nbdssl" has that transport mode.
 * With DUMMY_REPORT in the environment Open and Flush log what this process has mapped and open.
 * InitEx refuses a configuration file whose name has "refused" in it.
 * -DOLD leaves out what came with 6.7, -DBARE what every version must have.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef uint64_t VixError;
typedef void Log(const char *fmt, va_list ap);
typedef void Completion(void *data, VixError result);

typedef struct {
   char *vmxSpec, *serverName, *thumbPrint;
   long privateUse;
   int32_t credType;
   union {
      struct { char *user, *password; } uid;
      struct { char *cookie, *user, *key; } session;
   } creds;
   uint32_t port, nfcHostPort;
   char *vimApiVer;
   char more[48];
} Params;

typedef struct {
   uint32_t bios[3], phys[3];
   uint64_t capacity;
   int32_t adapterType, numLinks;
   char *parent, *uuid;
#ifndef OLD
   uint32_t logical, physical;
#endif
} Info;

typedef struct {
   int fd;
   char path[4096];
   uint64_t capacity;
   pthread_mutex_t lock;
   int flying;              /* callbacks that have not returned: what Wait waits for */
   int pending, pending_max; /* requests whose callback has not come */
   pthread_cond_t idle;
} Disk;

static Log *log_info, *log_warn;

__attribute__((format(printf, 2, 3))) static void say(Log *log, const char *fmt, ...)
{
   va_list ap;
   va_start(ap, fmt);
   if (log) log(fmt, ap);
   va_end(ap);
}

static VixError fault(const char *path, const char *call)
{
   char name[4200], line[100], what[100], which[100];
   snprintf(name, sizeof name, "%s.fault", path);
   FILE *file = fopen(name, "r");
   VixError result = 0;
   if (!file) return 0;
   while (!result && fgets(line, sizeof line, file)) {
      if (sscanf(line, "%99s %99s", which, what) != 2 || strcmp(which, call)) continue;
      if (!strcmp(what, "segv")) { say(log_warn, "about to crash in %s\n", call); *(volatile int *)8 = 1; }
      else if (!strcmp(what, "exit")) _exit(3);
      else if (!strcmp(what, "thumb")) {
         say(log_warn, "SSL: thumbprint mismatch: actual AA:BB expected CC:DD\n");
         result = 1;
      }
      else if (!strcmp(what, "nfc")) {
         say(log_warn, "NFC error 5: Failed to allocate the requested 1048600 bytes\n");
         result = 1;
      }
      else if (!strcmp(what, "hang")) for (;;) pause();
      else result = strtoull(what, NULL, 10);
   }
   fclose(file);
   if (result > 1) say(log_warn, "injected %llu at %s\n", (unsigned long long)result, call);
   return result;
}

VixError VixDiskLib_InitEx(uint32_t major, uint32_t minor, Log *info, Log *warn, Log *panic,
                           const char *dir, const char *config)
{
   (void)panic;
   log_info = info;
   log_warn = warn;
   say(info, "init %u.%u in %s with %s, %s %d%%\n", major, minor, dir, config ? config : "-",
       getenv("LD_LIBRARY_PATH") ? getenv("LD_LIBRARY_PATH") : "unset", 100);
   return config && strstr(config, "refused") ? 3 : 0;
}

void VixDiskLib_Exit(void) {}

char *VixDiskLib_GetErrorText(VixError e, const char *locale)
{
   char text[100];
   (void)locale;
   snprintf(text, sizeof text, "dummy error %u", (unsigned)(e & 0xFFFF));
   return strdup(text);
}

void VixDiskLib_FreeErrorText(char *text) { free(text); }

#ifndef OLD
Params *VixDiskLib_AllocateConnectParams(void) { return calloc(1, 128); }
#endif

void VixDiskLib_FreeConnectParams(Params *p)
{
   /* As a library that owns the strings would: the caller must have set its own to NULL. */
   free(p->vmxSpec);
   free(p->serverName);
   free(p->thumbPrint);
   free(p->creds.uid.user);
   free(p->creds.uid.password);
   free(p);
}

VixError VixDiskLib_ConnectEx(const Params *p, char readOnly, const char *snapshot,
                              const char *modes, void **out)
{
   *out = (void *)p;
   if (!p->serverName) {
      say(log_info, "local readonly=%d snapshot=%s modes=%s\n", readOnly, snapshot ? snapshot : "-", modes ? modes : "-");
      return 0;
   }
   say(log_info, "connect %s:%u vmx=%s thumb=%s cred=%d user=%s readonly=%d snapshot=%s modes=%s\n",
       p->serverName, p->port, p->vmxSpec, p->thumbPrint, p->credType,
       p->credType == 1 ? p->creds.uid.user : p->creds.session.user, readOnly,
       snapshot ? snapshot : "-", modes ? modes : "-");
   if (p->credType == 1 && strcmp(p->creds.uid.password, "right")) {
      say(log_warn, "login with %s refused\n", p->creds.uid.password);
      return 35 | 7ULL << 32;
   }
   if (p->credType == 2 && strcmp(p->creds.session.cookie, "good-cookie")) {
      say(log_warn, "cookie %s refused\n", p->creds.session.cookie);
      return 35;
   }
   return 0;
}

VixError VixDiskLib_Disconnect(void *c) { (void)c; say(log_info, "disconnect\n"); return 0; }

static void report(void)
{
   char line[5000], link[4200], *name;
   FILE *maps = fopen("/proc/self/maps", "r");
   while (maps && fgets(line, sizeof line, maps))
      if ((name = strchr(line, '/'))) say(log_info, "mapped %s", name);
   if (maps) fclose(maps);
   for (int fd = 0; fd < 1024; fd++) {
      snprintf(line, sizeof line, "/proc/self/fd/%d", fd);
      ssize_t n = readlink(line, link, sizeof link - 1);
      if (n > 0) { link[n] = 0; say(log_info, "holds %s", link); }
   }
   say(log_info, "end of report");
}

VixError VixDiskLib_Open(void *connection, const char *path, uint32_t flags, Disk **out)
{
   struct stat st;
   VixError e = fault(path, "open");
   (void)connection;
   if (e) return e;
   if (getenv("DUMMY_REPORT")) report();
   int fd = open(path, flags & 4 ? O_RDONLY : O_RDWR);
   if (fd < 0) return 4;
   Disk *d = calloc(1, sizeof *d);
   fstat(fd, &st);
   d->fd = fd;
   d->capacity = st.st_size / 512;
   snprintf(d->path, sizeof d->path, "%s", path);
   pthread_mutex_init(&d->lock, NULL);
   pthread_cond_init(&d->idle, NULL);
   *out = d;
   return 0;
}

VixError VixDiskLib_Wait(Disk *d)
{
   pthread_mutex_lock(&d->lock);
   while (d->flying) pthread_cond_wait(&d->idle, &d->lock);
   pthread_mutex_unlock(&d->lock);
   return 0;
}

VixError VixDiskLib_Close(Disk *d)
{
   VixError e = fault(d->path, "close");
   say(log_info, "close, at most %d in flight\n", d->pending_max);
   close(d->fd);
   free(d);
   return e;
}

const char *VixDiskLib_GetTransportMode(Disk *d) { return strstr(d->path, "nbdssl") ? "nbdssl" : "file"; }

VixError VixDiskLib_GetInfo(Disk *d, Info **out)
{
   Info *i = calloc(1, sizeof *i);
   i->capacity = d->capacity;
   i->adapterType = 3;
   i->numLinks = 1;
   i->uuid = strdup("60 00 C2 91");
   i->bios[0] = 7; i->bios[1] = 8; i->bios[2] = 9;
#ifndef OLD
   i->logical = 512; i->physical = 4096;
#endif
   *out = i;
   return 0;
}

void VixDiskLib_FreeInfo(Info *i) { free(i->uuid); free(i); }

static VixError run(Disk *d, int write, uint64_t start, uint64_t n, uint8_t *buf)
{
   VixError e = fault(d->path, write ? "write" : "read");
   if (e) return e;
   if (start + n > d->capacity) return 16007;
   ssize_t got = write ? pwrite(d->fd, buf, n * 512, start * 512) : pread(d->fd, buf, n * 512, start * 512);
   return got == (ssize_t)(n * 512) ? 0 : 7;
}

VixError VixDiskLib_Read(Disk *d, uint64_t s, uint64_t n, uint8_t *b) { return run(d, 0, s, n, b); }
VixError VixDiskLib_Write(Disk *d, uint64_t s, uint64_t n, const uint8_t *b) { return run(d, 1, s, n, (uint8_t *)b); }

typedef struct { Disk *d; int write; uint64_t s, n; uint8_t *b; Completion *cb; void *data; } Job;

static void *work(void *arg)
{
   Job j = *(Job *)arg;
   free(arg);
   usleep(2000);
   VixError e = run(j.d, j.write, j.s, j.n, j.b);
   pthread_mutex_lock(&j.d->lock);
   j.d->pending--;
   pthread_mutex_unlock(&j.d->lock);
   j.cb(j.data, e);
   pthread_mutex_lock(&j.d->lock);
   if (!--j.d->flying) pthread_cond_broadcast(&j.d->idle);
   pthread_mutex_unlock(&j.d->lock);
   return NULL;
}

static VixError submit(Disk *d, int write, uint64_t s, uint64_t n, uint8_t *b, Completion *cb, void *data)
{
   pthread_t t;
   VixError e = fault(d->path, "submit");
   if (e) return e;
   Job *j = malloc(sizeof *j);
   *j = (Job){ d, write, s, n, b, cb, data };
   pthread_mutex_lock(&d->lock);
   d->flying++;
   if (++d->pending > d->pending_max) d->pending_max = d->pending;
   pthread_mutex_unlock(&d->lock);
   pthread_create(&t, NULL, work, j);
   pthread_detach(t);
   return 25000;
}

VixError VixDiskLib_ReadAsync(Disk *d, uint64_t s, uint64_t n, uint8_t *b, Completion *cb, void *data) { return submit(d, 0, s, n, b, cb, data); }
#ifndef BARE
VixError VixDiskLib_WriteAsync(Disk *d, uint64_t s, uint64_t n, const uint8_t *b, Completion *cb, void *data) { return submit(d, 1, s, n, (uint8_t *)b, cb, data); }
VixError VixDiskLib_Flush(Disk *d)
{
   VixError e = fault(d->path, "flush");
   if (getenv("DUMMY_REPORT")) report();
   return e ? e : fsync(d->fd) ? 7 : 0;
}
#endif
typedef struct {
   int32_t diskType, adapterType;
   uint16_t hwVersion;
   uint64_t capacity;
   uint32_t logical, physical;
} CreateParams;
typedef char Progress(void *data, int percent);

static VixError told(Progress *progress, void *data)
{
   if (progress) { progress(data, 0); progress(data, 50); progress(data, 50); progress(data, 100); }
   return 0;
}

#define MAKING "type=%d adapter=%d hw=%u sectors=%llu sizes=%u/%u"
#define MADE(p) p->diskType, p->adapterType, p->hwVersion, (unsigned long long)p->capacity, p->logical, p->physical

VixError VixDiskLib_Create(void *c, const char *path, const CreateParams *p, Progress *f, void *data)
{
   say(log_info, "create %s at %d: " MAKING "\n", path, c != NULL, MADE(p));
   return told(f, data);
}

VixError VixDiskLib_Clone(void *to, const char *target, void *from, const char *source,
                          const CreateParams *p, Progress *f, void *data, char overwrite)
{
   say(log_info, "clone %s to %s (%d): " MAKING " overwrite=%d\n", source, target, to == from, MADE(p), overwrite);
   return told(f, data);
}

VixError VixDiskLib_Grow(void *c, const char *path, uint64_t sectors, char geometry, Progress *f, void *data)
{
   say(log_info, "grow %s at %d to %llu geometry=%d\n", path, c != NULL, (unsigned long long)sectors, geometry);
   return told(f, data);
}

VixError VixDiskLib_Rename(const char *from, const char *to)
{
   say(log_info, "rename %s to %s\n", from, to);
   return 0;
}

VixError VixDiskLib_CheckRepair(void *c, const char *path, char repair)
{
   say(log_info, "check %s at %d repair=%d\n", path, c != NULL, repair);
   return repair ? 0 : 16006;
}

VixError VixDiskLib_Shrink(Disk *d, Progress *f, void *data) { say(log_info, "shrink %s\n", d->path); return told(f, data); }
VixError VixDiskLib_Defragment(Disk *d, Progress *f, void *data) { say(log_info, "defragment %s\n", d->path); return told(f, data); }

VixError VixDiskLib_SpaceNeededForClone(Disk *d, int32_t type, uint64_t *bytes)
{
   *bytes = d->capacity * 512 + type;
   return 0;
}

VixError VixDiskLib_PrepareForAccess(const Params *p, const char *identity)
{
   say(log_info, "prepare %s by %s as %s\n", p->vmxSpec, identity, p->creds.uid.user);
   return strcmp(identity, "second") ? 0 : 20005;
}

VixError VixDiskLib_EndAccess(const Params *p, const char *identity)
{
   say(log_info, "end %s by %s\n", p->vmxSpec, identity);
   return 0;
}

VixError VixDiskLib_Cleanup(const Params *p, uint32_t *cleaned, uint32_t *remaining)
{
   say(log_info, "clean up at %s\n", p->serverName);
   *cleaned = 3;
   *remaining = 1;
   return 0;
}

#ifndef OLD
typedef struct { uint32_t n; struct { uint64_t offset, length; } b[]; } Blocks;

VixError VixDiskLib_QueryAllocatedBlocks(Disk *d, uint64_t start, uint64_t count, uint64_t chunk, Blocks **out)
{
   VixError e = fault(d->path, "blocks");
   if (e) return e;
   if (chunk < 128 || chunk > 131072 || start % chunk || count % chunk || count / chunk > 524288) return 3;
   if (start + count > d->capacity) return 16007;
   Blocks *list = malloc(sizeof *list + count / chunk * 16);
   uint8_t *data = malloc(chunk * 512);
   list->n = 0;
   for (uint64_t at = start; at < start + count; at += chunk) {
      if (pread(d->fd, data, chunk * 512, at * 512) < 0) return 7;
      for (uint64_t k = 0; k < chunk * 512; k++)
         if (data[k]) { list->b[list->n].offset = at; list->b[list->n++].length = chunk; break; }
   }
   free(data);
   *out = list;
   return 0;
}

VixError VixDiskLib_FreeBlockList(Blocks *list) { free(list); return 0; }
#endif
