/* Checks the layouts of the interface on Linux x86-64 against the published declarations. It names
 * every function, so a program with this file links only if none is missing. */
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
AT(vreplica_Piece, numSectors, 8);
AT(vreplica_Piece, buffer, 16);
SIZE(vreplica_Piece, 24);

typedef void (*any_function)(void);
extern const any_function vr_abi_functions[];

const any_function vr_abi_functions[] = {
   (any_function)VixDiskLib_AllocateConnectParams,
   (any_function)VixDiskLib_Attach,
   (any_function)VixDiskLib_CheckRepair,
   (any_function)VixDiskLib_Cleanup,
   (any_function)VixDiskLib_Clone,
   (any_function)VixDiskLib_Close,
   (any_function)VixDiskLib_Connect,
   (any_function)VixDiskLib_ConnectEx,
   (any_function)VixDiskLib_Create,
   (any_function)VixDiskLib_CreateChild,
   (any_function)VixDiskLib_Defragment,
   (any_function)VixDiskLib_Disconnect,
   (any_function)VixDiskLib_EndAccess,
   (any_function)VixDiskLib_Exit,
   (any_function)VixDiskLib_Flush,
   (any_function)VixDiskLib_FreeBlockList,
   (any_function)VixDiskLib_FreeConnectParams,
   (any_function)VixDiskLib_FreeErrorText,
   (any_function)VixDiskLib_FreeInfo,
   (any_function)VixDiskLib_GetConnectParams,
   (any_function)VixDiskLib_GetErrorText,
   (any_function)VixDiskLib_GetInfo,
   (any_function)VixDiskLib_GetMetadataKeys,
   (any_function)VixDiskLib_GetTransportMode,
   (any_function)VixDiskLib_Grow,
   (any_function)VixDiskLib_Init,
   (any_function)VixDiskLib_InitEx,
   (any_function)VixDiskLib_IsAttachPossible,
   (any_function)VixDiskLib_ListTransportModes,
   (any_function)VixDiskLib_Open,
   (any_function)VixDiskLib_PrepareForAccess,
   (any_function)VixDiskLib_QueryAllocatedBlocks,
   (any_function)VixDiskLib_Read,
   (any_function)VixDiskLib_ReadAsync,
   (any_function)VixDiskLib_ReadMetadata,
   (any_function)VixDiskLib_Rename,
   (any_function)VixDiskLib_Shrink,
   (any_function)VixDiskLib_SpaceNeededForClone,
   (any_function)VixDiskLib_Unlink,
   (any_function)VixDiskLib_Wait,
   (any_function)VixDiskLib_Write,
   (any_function)VixDiskLib_WriteAsync,
   (any_function)VixDiskLib_WriteMetadata,
};
