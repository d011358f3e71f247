/* Shared by all test programs: assertions with their place, a fresh folder, a local connection. */
#ifndef VR_TEST_CHECK_H
#define VR_TEST_CHECK_H

#include <vixDiskLib.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
   do { \
      if (!(condition)) { \
         fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
         exit(1); \
      } \
   } while (0)

#define GIVES(wanted, call) \
   do { \
      VixError got_ = (call); \
      if (got_ != (VixError)(wanted)) { \
         fprintf(stderr, "%s:%d: %s gave %llu, not %llu\n", __FILE__, __LINE__, #call, \
            (unsigned long long)got_, (unsigned long long)(wanted)); \
         exit(1); \
      } \
   } while (0)

#define OK(call) GIVES(VIX_OK, call)

/* xorshift64, so that tests repeat exactly. */
static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
   *state ^= *state << 13;
   *state ^= *state >> 7;
   *state ^= *state << 17;
   return *state % limit;
}

static inline void random_fill(uint64_t *state, uint8_t *buf, size_t bytes)
{
   for (size_t i = 0; i < bytes; i++) {
      buf[i] = (uint8_t)random_below(state, 256);
   }
}

static inline VixDiskLibConnection local(void)
{
   VixDiskLibConnection connection;
   OK(VixDiskLib_ConnectEx(NULL, 0, NULL, NULL, &connection));
   return connection;
}

static inline void make(VixDiskLibConnection c, const char *path, VixDiskLibDiskType type,
   uint64_t capacity)
{
   VixDiskLibCreateParams params = {.diskType = type, .adapterType = VIXDISKLIB_ADAPTER_SCSI_LSILOGIC,
      .hwVersion = VIXDISKLIB_HWVERSION_ESX65, .capacity = capacity};
   OK(VixDiskLib_Create(c, path, &params, NULL, NULL));
}

static inline VixDiskLibHandle open_disk(VixDiskLibConnection c, const char *path, uint32_t flags)
{
   VixDiskLibHandle h;
   OK(VixDiskLib_Open(c, path, flags, &h));
   return h;
}

#endif
