/* GetInfo and the metadata calls. */
#include "api/disk.h"
#include "os/encoding.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

VixDiskLibAdapterType vr_adapter_type(const char *name)
{
   return !name                       ? VIXDISKLIB_ADAPTER_UNKNOWN
      : !strcasecmp(name, "ide")      ? VIXDISKLIB_ADAPTER_IDE
      : !strcasecmp(name, "buslogic") ? VIXDISKLIB_ADAPTER_SCSI_BUSLOGIC
      : !strcasecmp(name, "lsilogic") ? VIXDISKLIB_ADAPTER_SCSI_LSILOGIC
                                      : VIXDISKLIB_ADAPTER_UNKNOWN;
}

VixError VixDiskLib_GetInfo(VixDiskLibHandle diskHandle, VixDiskLibInfo **info)
{
   VixError err = vr_disk_check(diskHandle);
   if (err != VIX_OK || !info) {
      return err != VIX_OK ? err : VIX_E_INVALID_ARG;
   }
   return diskHandle->ops->info(diskHandle, info);
}

void VixDiskLib_FreeInfo(VixDiskLibInfo *info)
{
   free(info);
}

/* Keys are letters, digits, dots, dashes and underscores; a value is one line without quotes. */
static bool is_key(const char *key)
{
   return key && *key && strlen(key) < 100
      && key[strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] == 0;
}

/* Gives `needed` bytes to a buffer of the caller, or says how many they are. */
static VixError hand_out(const char *from, size_t needed, char *buf, size_t room,
   size_t *required)
{
   if (required) {
      *required = needed;
   }
   if (!buf || room < needed) {
      return VIX_E_BUFFER_TOOSMALL;
   }
   memcpy(buf, from, needed);
   return VIX_OK;
}

VixError VixDiskLib_ReadMetadata(VixDiskLibHandle diskHandle, const char *key, char *buf,
   size_t bufLen, size_t *requiredLen)
{
   VixError err = vr_disk_check(diskHandle);
   if (err != VIX_OK || !is_key(key)) {
      return err != VIX_OK ? err : VIX_E_INVALID_ARG;
   }
   char *value;
   err = diskHandle->ops->metadata(diskHandle, key, &value);
   if (err == VIX_OK) {
      err = hand_out(value, strlen(value) + 1, buf, bufLen, requiredLen);
      free(value);
   }
   return err;
}

VixError VixDiskLib_WriteMetadata(VixDiskLibHandle diskHandle, const char *key, const char *val)
{
   VixError err = vr_disk_check(diskHandle);
   if (err != VIX_OK) {
      return err;
   }
   if (!is_key(key) || !val || strpbrk(val, "\"\r\n")) {
      return VIX_E_INVALID_ARG;
   }
   if (!vr_is_utf8(val)) {
      return VIX_E_INVALID_UTF8_STRING;
   }
   return diskHandle->writable ? diskHandle->ops->set_metadata(diskHandle, key, val)
                               : VIX_E_FILE_READ_ONLY;
}

VixError VixDiskLib_GetMetadataKeys(VixDiskLibHandle diskHandle, char *keys, size_t maxLen,
   size_t *requiredLen)
{
   VixError err = vr_disk_check(diskHandle);
   if (err != VIX_OK) {
      return err;
   }
   char *found;
   size_t bytes;
   err = diskHandle->ops->metadata_keys(diskHandle, &found, &bytes);
   if (err == VIX_OK) {
      err = hand_out(found, bytes, keys, maxLen, requiredLen);
      free(found);
   }
   return err;
}
