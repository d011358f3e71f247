#include "os/secret.h"

#include <sys/mman.h>
#include <unistd.h>

static size_t pages(size_t bytes)
{
   size_t page = (size_t)sysconf(_SC_PAGESIZE);
   return (bytes + page - 1) / page * page;
}

char *vr_secret_keep(const char *secret)
{
   size_t bytes = strlen(secret) + 1;
   char *kept = mmap(NULL, pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
   if (kept == MAP_FAILED) {
      return NULL;
   }
   madvise(kept, pages(bytes), MADV_DONTDUMP);
   mlock(kept, pages(bytes));
   return memcpy(kept, secret, bytes);
}

void vr_secret_forget(char *secret)
{
   if (secret) {
      size_t bytes = strlen(secret) + 1;
      vr_wipe(secret, bytes);
      munmap(secret, pages(bytes));
   }
}
