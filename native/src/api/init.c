/* Init, InitEx, Exit and ListTransportModes: the start and the end of the use of the library. */
#include "api/settings.h"
#include "os/log.h"
#include "os/request_threads.h"
#include "vixDiskLib.h"

VixError VixDiskLib_InitEx(uint32_t majorVersion, uint32_t minorVersion,
   VixDiskLibGenericLogFunc *log, VixDiskLibGenericLogFunc *warn, VixDiskLibGenericLogFunc *panic,
   const char *libDir, const char *configFile)
{
   (void)panic; /* nothing here ends the program */
   (void)libDir;
   (void)minorVersion;
   const vr_settings *settings = vr_settings_get();
   if (settings->ready) {
      return VIX_OK; /* a second initialisation keeps the first */
   }
   if (majorVersion < 1 || majorVersion > 9) {
      return VIX_E_NOT_SUPPORTED;
   }
   vr_log_to(log, warn);
   VixError err = vr_settings_load(configFile);
   if (err == VIX_OK) {
      vr_log("vreplica disk library, interface %u.%u%s%s\n", majorVersion, minorVersion,
         settings->lab_root ? ", lab at " : "", settings->lab_root ? settings->lab_root : "");
   } else {
      VixDiskLib_Exit();
   }
   return err;
}

VixError VixDiskLib_Init(uint32_t majorVersion, uint32_t minorVersion,
   VixDiskLibGenericLogFunc *log, VixDiskLibGenericLogFunc *warn, VixDiskLibGenericLogFunc *panic,
   const char *libDir)
{
   return VixDiskLib_InitEx(majorVersion, minorVersion, log, warn, panic, libDir, NULL);
}

void VixDiskLib_Exit(void)
{
   vr_requests_stop();
   vr_log_to(NULL, NULL);
   vr_settings_forget();
}

const char *VixDiskLib_ListTransportModes(void)
{
   return vreplica_TlsStatus(NULL) == VIX_OK ? "file:nbdssl:nbd" : "file"; /* hosts need TLS */
}
