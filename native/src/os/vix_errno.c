#include "os/vix_errno.h"

#include <errno.h>

VixError vr_errno(int error)
{
   switch (error) {
   case 0:
      return VIX_OK;
   case ENOENT:
   case ENOTDIR:
      return VIX_E_FILE_NOT_FOUND;
   case EACCES:
   case EPERM:
      return VIX_E_FILE_ACCESS_ERROR;
   case EROFS:
      return VIX_E_FILE_READ_ONLY;
   case EEXIST:
      return VIX_E_FILE_ALREADY_EXISTS;
   case ENOSPC:
   case EDQUOT:
      return VIX_E_DISK_FULL;
   case EFBIG:
      return VIX_E_FILE_TOO_BIG;
   case ENOMEM:
      return VIX_E_OUT_OF_MEMORY;
   case EMFILE:
   case ENFILE:
      return VIX_E_DISK_TOOMANYOPENFILES;
   case ENAMETOOLONG:
   case ELOOP:
      return VIX_E_FILE_NAME_INVALID;
   case EISDIR:
   case ENXIO:
      return VIX_E_INCORRECT_FILE_TYPE;
   default:
      return VIX_E_FILE_ERROR;
   }
}
