/* The layouts of the interface on Linux x86-64, as the published declarations have them. */
#include <vixDiskLib.h>

#define AT(type, member, where) \
   _Static_assert(offsetof(type, member) == (where), #type "." #member)
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)

SIZE(VixError, 8);
SIZE(Bool, 1);
SIZE(VixDiskLibDiskType, 4);
SIZE(VixDiskLibGeometry, 12);
SIZE(VixDiskLibCreds, 24);
AT(VixDiskLibConnectParams, serverName, 8);
AT(VixDiskLibConnectParams, thumbPrint, 16);
AT(VixDiskLibConnectParams, privateUse, 24);
AT(VixDiskLibConnectParams, credType, 32);
AT(VixDiskLibConnectParams, creds, 40);
AT(VixDiskLibConnectParams, port, 64);
AT(VixDiskLibConnectParams, nfcHostPort, 68);
AT(VixDiskLibConnectParams, vimApiVer, 72);
AT(VixDiskLibConnectParams, reserved, 80);
AT(VixDiskLibConnectParams, state, 88);
AT(VixDiskLibConnectParams, spec, 96);
AT(VixDiskLibConnectParams, specType, 120);
SIZE(VixDiskLibConnectParams, 128);
AT(VixDiskLibInfo, physGeo, 12);
AT(VixDiskLibInfo, capacity, 24);
AT(VixDiskLibInfo, adapterType, 32);
AT(VixDiskLibInfo, numLinks, 36);
AT(VixDiskLibInfo, parentFileNameHint, 40);
AT(VixDiskLibInfo, uuid, 48);
AT(VixDiskLibInfo, logicalSectorSize, 56);
AT(VixDiskLibInfo, physicalSectorSize, 60);
SIZE(VixDiskLibInfo, 64);
AT(VixDiskLibCreateParams, adapterType, 4);
AT(VixDiskLibCreateParams, hwVersion, 8);
AT(VixDiskLibCreateParams, capacity, 16);
AT(VixDiskLibCreateParams, logicalSectorSize, 24);
SIZE(VixDiskLibCreateParams, 32);
SIZE(VixDiskLibBlock, 16);
AT(VixDiskLibBlockList, blocks, 8);
SIZE(VixDiskLibBlockList, 24);
