#include "os/deflate.h"

#include "os/log.h"

#include <dlfcn.h>
#include <pthread.h>

/* zlib's manual: compress2 and uncompress return 0 (Z_OK) on success. */
typedef int (*uncompress_fn)(uint8_t *, unsigned long *, const uint8_t *, unsigned long);
typedef int (*compress2_fn)(uint8_t *, unsigned long *, const uint8_t *, unsigned long, int);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uncompress_fn uncompress_call;
static compress2_fn compress2_call;

static void load(void)
{
   void *zlib = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
   if (!zlib) {
      vr_warn("libz.so.1 is needed for compressed disks and connections: %s\n", dlerror());
      return;
   }
   uncompress_call = (uncompress_fn)(uintptr_t)dlsym(zlib, "uncompress");
   compress2_call = (compress2_fn)(uintptr_t)dlsym(zlib, "compress2");
}

bool vr_deflate_available(void)
{
   pthread_once(&once, load);
   return uncompress_call && compress2_call;
}

VixError vr_inflate(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t *bytes)
{
   pthread_once(&once, load);
   if (!uncompress_call) {
      return VIX_E_NOT_SUPPORTED;
   }
   unsigned long filled = *bytes;
   int result = uncompress_call(out, &filled, in, in_bytes);
   *bytes = filled;
   return result == 0 ? VIX_OK : VIX_E_DISK_NEEDSREPAIR;
}

VixError vr_deflate(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t *bytes,
   int level)
{
   pthread_once(&once, load);
   if (!compress2_call) {
      return VIX_E_NOT_SUPPORTED;
   }
   unsigned long filled = *bytes;
   int result = compress2_call(out, &filled, in, in_bytes, level);
   *bytes = filled;
   return result == 0 ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}

size_t vr_deflate_bound(size_t bytes)
{
   return bytes + bytes / 1000 + 64; /* zlib's own bound is smaller */
}
