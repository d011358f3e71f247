/* Calls that answer NOT_SUPPORTED. */
#include "connection.h"
#include "disk.h"
VixError VixDiskLib_Grow(VixDiskLibConnection c, const char *p, VixDiskLibSectorType n, Bool u, VixDiskLibProgressFunc f, void *d)
{ (void)p;(void)n;(void)u;(void)f;(void)d; VixError e = vr_connection_check_local(c); return e != VIX_OK ? e : VIX_E_NOT_SUPPORTED; }
VixError VixDiskLib_Shrink(VixDiskLibHandle h, VixDiskLibProgressFunc f, void *d)
{ (void)f;(void)d; VixError e = vr_disk_check(h); return e != VIX_OK ? e : VIX_E_NOT_SUPPORTED; }
VixError VixDiskLib_Defragment(VixDiskLibHandle h, VixDiskLibProgressFunc f, void *d)
{ (void)f;(void)d; VixError e = vr_disk_check(h); return e != VIX_OK ? e : VIX_E_NOT_SUPPORTED; }
VixError VixDiskLib_Rename(const char *s, const char *d)
{ (void)s;(void)d; return VIX_E_NOT_SUPPORTED; }
VixError VixDiskLib_Clone(const VixDiskLibConnection dc, const char *dp, const VixDiskLibConnection sc, const char *sp, const VixDiskLibCreateParams *p, VixDiskLibProgressFunc f, void *d, Bool o)
{ (void)dc;(void)dp;(void)sc;(void)sp;(void)p;(void)f;(void)d;(void)o; return VIX_E_NOT_SUPPORTED; }
VixError VixDiskLib_SpaceNeededForClone(VixDiskLibHandle h, VixDiskLibDiskType t, uint64_t *s)
{ (void)t;(void)s; VixError e = vr_disk_check(h); return e != VIX_OK ? e : VIX_E_NOT_SUPPORTED; }
VixError VixDiskLib_CheckRepair(const VixDiskLibConnection c, const char *f, Bool r)
{ (void)f;(void)r; VixError e = vr_connection_check_local(c); return e != VIX_OK ? e : VIX_E_NOT_SUPPORTED; }
