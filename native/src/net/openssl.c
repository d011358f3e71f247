#include "net/openssl.h"

#include "vixDiskLib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#define LIBSSL "libssl.so.3"
#define LIBCRYPTO "libcrypto.so.3"
#define OPENSSL_VERSION 0 /* of OpenSSL_version: the text with the date */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static vr_openssl functions;
static bool loaded;
static char text[512];

static const struct {
   bool ssl;
   const char *name;
   size_t at;
} names[] = {
#define VR_NAME(result, name, parameters) {true, #name, offsetof(vr_openssl, name)},
   VR_LIBSSL(VR_NAME)
#undef VR_NAME
#define VR_NAME(result, name, parameters) {false, #name, offsetof(vr_openssl, name)},
   VR_LIBCRYPTO(VR_NAME)
#undef VR_NAME
};

static void missing(const char *found)
{
   char reason[256]; /* a copy: the next dlopen takes the text of dlerror away */
   snprintf(reason, sizeof reason, "%s", found);
   void *old = dlopen("libssl.so.1.1", RTLD_NOW | RTLD_LOCAL);
   snprintf(text, sizeof text, "%s%s; TLS to vCenter and ESXi needs OpenSSL 3: install it (Debian and "
      "Ubuntu: libssl3 or libssl3t64; Red Hat, SUSE: openssl-libs, libopenssl3)",
      old ? "OpenSSL here is 1.1, which is too old: " : "", reason);
   if (old) {
      dlclose(old);
   }
}

/* The libraries stay loaded: OpenSSL cleans up when the process ends. */
static void load(void)
{
   void *crypto = dlopen(LIBCRYPTO, RTLD_NOW | RTLD_LOCAL);
   void *ssl = crypto ? dlopen(LIBSSL, RTLD_NOW | RTLD_LOCAL) : NULL;
   if (!ssl) {
      missing(dlerror());
      return;
   }
   for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
      void *found = dlsym(names[i].ssl ? ssl : crypto, names[i].name);
      if (!found) {
         char reason[128];
         snprintf(reason, sizeof reason, "%s has no %s", names[i].ssl ? LIBSSL : LIBCRYPTO,
            names[i].name);
         missing(reason);
         return;
      }
      *(void **)((char *)&functions + names[i].at) = found;
   }
   snprintf(text, sizeof text, "%s", functions.OpenSSL_version(OPENSSL_VERSION));
   loaded = true;
}

const vr_openssl *vr_openssl_get(void)
{
   pthread_once(&once, load);
   return loaded ? &functions : NULL;
}

const char *vr_openssl_text(void)
{
   pthread_once(&once, load);
   return text;
}

VixError vreplica_TlsStatus(const char **why)
{
   if (why) {
      *why = vr_openssl_text();
   }
   return vr_openssl_get() ? VIX_OK : VIX_E_NOT_SUPPORTED;
}
