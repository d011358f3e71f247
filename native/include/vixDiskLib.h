/*
 * The VixDiskLib C interface, for programs written for VDDK 6.7 to 8.0.
 *
 * Written for vreplica from the published interface: the VDDK 8.0 Programming Guide, the
 * independently written declarations of nbdkit's vddk plugin, and its release notes. Layouts are
 * those of Linux x86-64 with natural alignment; native/tests/abi.c asserts every offset.
 *
 * Rules that hold for every call
 *   units       a sector is 512 bytes; offsets and counts are in sectors.
 *   result      VIX_OK, or an error whose low 16 bits are the code. Compare success whole.
 *   strings     UTF-8. The maker owns a string. The matching Free function frees what the library
 *               allocates; strings of GetTransportMode and ListTransportModes belong to the library
 *               and stay valid until VixDiskLib_Exit.
 *   threads     one call at a time on one handle, several handles at once. A completion callback
 *               runs on a thread of the library and calls nothing of the library.
 *   fork        not after VixDiskLib_InitEx.
 */
#ifndef VREPLICA_VIXDISKLIB_H
#define VREPLICA_VIXDISKLIB_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VIXDISKLIB_EXPORT __attribute__((visibility("default")))

#define VIXDISKLIB_VERSION_MAJOR 8
#define VIXDISKLIB_VERSION_MINOR 0
#define VIXDISKLIB_SECTOR_SIZE 512

typedef char Bool;
typedef uint8_t uint8;
typedef uint16_t uint16;
typedef uint32_t uint32;
typedef uint64_t uint64;
typedef uint64_t VixError;
typedef uint64_t VixDiskLibSectorType;
typedef struct VixDiskLibHandleStruct *VixDiskLibHandle;
typedef struct VixDiskLibConnectParam *VixDiskLibConnection;

#define VIX_ERROR_CODE(err) ((err) & 0xFFFF)
#define VIX_SUCCEEDED(err) ((err) == VIX_OK)
#define VIX_FAILED(err) ((err) != VIX_OK)

#include "vixDiskLibErrors.h"

/* Open flags. */
#define VIXDISKLIB_FLAG_OPEN_UNBUFFERED (1 << 0)
#define VIXDISKLIB_FLAG_OPEN_SINGLE_LINK (1 << 1)
#define VIXDISKLIB_FLAG_OPEN_READ_ONLY (1 << 2)
#define VIXDISKLIB_FLAG_OPEN_COMPRESSION_ZLIB (1 << 4)
#define VIXDISKLIB_FLAG_OPEN_COMPRESSION_FASTLZ (1 << 5)
#define VIXDISKLIB_FLAG_OPEN_COMPRESSION_SKIPZ (1 << 6)
#define VIXDISKLIB_FLAG_OPEN_COMPRESSION_MASK 0x03F0

/* Limits of QueryAllocatedBlocks, in sectors and chunks. */
#define VIXDISKLIB_MIN_CHUNK_SIZE 128
#define VIXDISKLIB_MAX_CHUNK_SIZE 131072
#define VIXDISKLIB_MAX_CHUNK_NUMBER 524288

#define VIXDISKLIB_HWVERSION_WORKSTATION_4 3
#define VIXDISKLIB_HWVERSION_WORKSTATION_5 4
#define VIXDISKLIB_HWVERSION_ESX30 4
#define VIXDISKLIB_HWVERSION_WORKSTATION_6 6
#define VIXDISKLIB_HWVERSION_ESX4X 7
#define VIXDISKLIB_HWVERSION_ESX50 8
#define VIXDISKLIB_HWVERSION_ESX51 9
#define VIXDISKLIB_HWVERSION_ESX55 10
#define VIXDISKLIB_HWVERSION_ESX60 11
#define VIXDISKLIB_HWVERSION_ESX65 13

typedef enum {
   VIXDISKLIB_DISK_MONOLITHIC_SPARSE = 1,
   VIXDISKLIB_DISK_MONOLITHIC_FLAT = 2,
   VIXDISKLIB_DISK_SPLIT_SPARSE = 3,
   VIXDISKLIB_DISK_SPLIT_FLAT = 4,
   VIXDISKLIB_DISK_VMFS_FLAT = 5,
   VIXDISKLIB_DISK_STREAM_OPTIMIZED = 6,
   VIXDISKLIB_DISK_VMFS_THIN = 7,
   VIXDISKLIB_DISK_VMFS_SPARSE = 8,
   VIXDISKLIB_DISK_UNKNOWN = 256
} VixDiskLibDiskType;

typedef enum {
   VIXDISKLIB_ADAPTER_IDE = 1,
   VIXDISKLIB_ADAPTER_SCSI_BUSLOGIC = 2,
   VIXDISKLIB_ADAPTER_SCSI_LSILOGIC = 3,
   VIXDISKLIB_ADAPTER_UNKNOWN = 256
} VixDiskLibAdapterType;

typedef enum {
   VIXDISKLIB_CRED_UID = 1,
   VIXDISKLIB_CRED_SESSIONID = 2,
   VIXDISKLIB_CRED_TICKETID = 3,
   VIXDISKLIB_CRED_SSPI = 4,
   VIXDISKLIB_CRED_UNKNOWN = 256
} VixDiskLibCredType;

typedef enum {
   VIXDISKLIB_SPEC_VMX = 0,
   VIXDISKLIB_SPEC_VSTORAGE_OBJECT = 1,
   VIXDISKLIB_SPEC_UNKNOWN = 2
} VixDiskLibSpecType;

typedef struct {
   uint32_t cylinders;
   uint32_t heads;
   uint32_t sectors;
} VixDiskLibGeometry;

typedef union {
   struct {
      char *userName;
      char *password;
   } uid;
   struct {
      char *cookie;
      char *userName;
      char *key;
   } sessionId;
   struct {
      char *ticket;
   } ticketId;
} VixDiskLibCreds;

typedef struct {
   char *id;
   char *datastoreMoRef;
   char *ssId;
} VixDiskLibVStorageObjectSpec;

/* VixDiskLib_AllocateConnectParams makes one; FreeConnectParams frees the struct, but not the
 * strings that the caller put in. Programs built for VDDK up to 6.5 pass only the first 80 bytes,
 * so the library reads no further in a struct that it did not allocate. */
typedef struct {
   char *vmxSpec;
   char *serverName;
   char *thumbPrint;
   long privateUse;
   VixDiskLibCredType credType;
   VixDiskLibCreds creds;
   uint32_t port;
   uint32_t nfcHostPort;
   char *vimApiVer;
   char reserved[8];
   void *state;
   union {
      VixDiskLibVStorageObjectSpec vStorageObjSpec;
   } spec;
   VixDiskLibSpecType specType;
} VixDiskLibConnectParams;

/* GetInfo returns it in one allocation; FreeInfo frees it. */
typedef struct {
   VixDiskLibGeometry biosGeo;
   VixDiskLibGeometry physGeo;
   VixDiskLibSectorType capacity;
   VixDiskLibAdapterType adapterType;
   int numLinks;
   char *parentFileNameHint; /* NULL for a base disk */
   char *uuid;
   uint32_t logicalSectorSize;
   uint32_t physicalSectorSize;
} VixDiskLibInfo;

/* The last two members are not read: programs built for VDDK up to 6.7 pass 24 bytes, and every
 * hosted disk has sectors of 512 bytes. */
typedef struct {
   VixDiskLibDiskType diskType;
   VixDiskLibAdapterType adapterType;
   uint16_t hwVersion;
   VixDiskLibSectorType capacity;
   uint32_t logicalSectorSize;
   uint32_t physicalSectorSize;
} VixDiskLibCreateParams;

typedef struct {
   VixDiskLibSectorType offset;
   VixDiskLibSectorType length;
} VixDiskLibBlock;

/* numBlocks entries follow: sorted, disjoint, adjacent ones merged. FreeBlockList frees it. */
typedef struct {
   uint32_t numBlocks;
   VixDiskLibBlock blocks[1];
} VixDiskLibBlockList;

typedef void VixDiskLibGenericLogFunc(const char *fmt, va_list args);
typedef Bool (*VixDiskLibProgressFunc)(void *progressData, int percentCompleted);
typedef void (*VixDiskLibCompletionCB)(void *cbData, VixError result);

/* Start and end, connections. */
VIXDISKLIB_EXPORT VixError VixDiskLib_Init(uint32_t majorVersion, uint32_t minorVersion,
   VixDiskLibGenericLogFunc *log, VixDiskLibGenericLogFunc *warn, VixDiskLibGenericLogFunc *panic,
   const char *libDir);
VIXDISKLIB_EXPORT VixError VixDiskLib_InitEx(uint32_t majorVersion, uint32_t minorVersion,
   VixDiskLibGenericLogFunc *log, VixDiskLibGenericLogFunc *warn, VixDiskLibGenericLogFunc *panic,
   const char *libDir, const char *configFile);
VIXDISKLIB_EXPORT void VixDiskLib_Exit(void);
VIXDISKLIB_EXPORT const char *VixDiskLib_ListTransportModes(void);
VIXDISKLIB_EXPORT VixError VixDiskLib_Cleanup(const VixDiskLibConnectParams *connectParams,
   uint32_t *numCleanedUp, uint32_t *numRemaining);
VIXDISKLIB_EXPORT VixError VixDiskLib_Connect(const VixDiskLibConnectParams *connectParams,
   VixDiskLibConnection *connection);
VIXDISKLIB_EXPORT VixError VixDiskLib_ConnectEx(const VixDiskLibConnectParams *connectParams,
   Bool readOnly, const char *snapshotRef, const char *transportModes,
   VixDiskLibConnection *connection);
VIXDISKLIB_EXPORT VixError VixDiskLib_Disconnect(VixDiskLibConnection connection);
VIXDISKLIB_EXPORT VixError VixDiskLib_PrepareForAccess(const VixDiskLibConnectParams *connectParams,
   const char *identity);
VIXDISKLIB_EXPORT VixError VixDiskLib_EndAccess(const VixDiskLibConnectParams *connectParams,
   const char *identity);
VIXDISKLIB_EXPORT VixDiskLibConnectParams *VixDiskLib_AllocateConnectParams(void);
VIXDISKLIB_EXPORT VixError VixDiskLib_GetConnectParams(const VixDiskLibConnection connection,
   VixDiskLibConnectParams **connectParams);
VIXDISKLIB_EXPORT void VixDiskLib_FreeConnectParams(VixDiskLibConnectParams *connectParams);
VIXDISKLIB_EXPORT char *VixDiskLib_GetErrorText(VixError err, const char *locale);
VIXDISKLIB_EXPORT void VixDiskLib_FreeErrorText(char *text);

/* A disk. The handle keeps what it needs of the connection. */
VIXDISKLIB_EXPORT VixError VixDiskLib_Open(const VixDiskLibConnection connection, const char *path,
   uint32_t flags, VixDiskLibHandle *diskHandle);
VIXDISKLIB_EXPORT VixError VixDiskLib_Close(VixDiskLibHandle diskHandle);
VIXDISKLIB_EXPORT VixError VixDiskLib_GetInfo(VixDiskLibHandle diskHandle, VixDiskLibInfo **info);
VIXDISKLIB_EXPORT void VixDiskLib_FreeInfo(VixDiskLibInfo *info);
VIXDISKLIB_EXPORT const char *VixDiskLib_GetTransportMode(VixDiskLibHandle diskHandle);
VIXDISKLIB_EXPORT VixError VixDiskLib_Read(VixDiskLibHandle diskHandle,
   VixDiskLibSectorType startSector, VixDiskLibSectorType numSectors, uint8_t *readBuffer);
VIXDISKLIB_EXPORT VixError VixDiskLib_Write(VixDiskLibHandle diskHandle,
   VixDiskLibSectorType startSector, VixDiskLibSectorType numSectors, const uint8_t *writeBuffer);
/* VIX_ASYNC: the request is queued, and the callback comes exactly once; the buffer belongs to the
 * library until then. Any other result: not queued, no callback. */
VIXDISKLIB_EXPORT VixError VixDiskLib_ReadAsync(VixDiskLibHandle diskHandle,
   VixDiskLibSectorType startSector, VixDiskLibSectorType numSectors, uint8_t *readBuffer,
   VixDiskLibCompletionCB callback, void *cbData);
VIXDISKLIB_EXPORT VixError VixDiskLib_WriteAsync(VixDiskLibHandle diskHandle,
   VixDiskLibSectorType startSector, VixDiskLibSectorType numSectors, const uint8_t *writeBuffer,
   VixDiskLibCompletionCB callback, void *cbData);
/* Not in VDDK: read or write one piece after the other in one call. *done is the number of pieces
 * that are done, also after a failure; the next piece is the one that failed. */
typedef struct {
   VixDiskLibSectorType startSector;
   VixDiskLibSectorType numSectors;
   uint8_t *buffer;
} vreplica_Piece;
VIXDISKLIB_EXPORT VixError vreplica_ReadMany(VixDiskLibHandle diskHandle,
   const vreplica_Piece *pieces, size_t count, size_t *done);
VIXDISKLIB_EXPORT VixError vreplica_WriteMany(VixDiskLibHandle diskHandle,
   const vreplica_Piece *pieces, size_t count, size_t *done);
/* Not in VDDK: `check` is called each time a disk at a host was opened again after a lost
 * connection, from a thread of the library and before anything is read or written. Where it does not
 * return VIX_OK, every further call of the handle fails with what it returned. It calls nothing of
 * the library. NULL for no check; a disk here has nothing to check. */
typedef VixError (*vreplica_ReopenCB)(void *data);
VIXDISKLIB_EXPORT VixError vreplica_OnReopen(VixDiskLibHandle diskHandle, vreplica_ReopenCB check,
   void *data);
/* Not in VDDK: VIX_OK where connections to hosts have TLS, VIX_E_NOT_SUPPORTED without OpenSSL 3.
 * *text (may be NULL): its version, or the reason and the remedy. Belongs to the library. Good
 * before InitEx too. */
VIXDISKLIB_EXPORT VixError vreplica_TlsStatus(const char **text);
VIXDISKLIB_EXPORT VixError VixDiskLib_Wait(VixDiskLibHandle diskHandle);
VIXDISKLIB_EXPORT VixError VixDiskLib_Flush(VixDiskLibHandle diskHandle);
VIXDISKLIB_EXPORT VixError VixDiskLib_QueryAllocatedBlocks(VixDiskLibHandle diskHandle,
   VixDiskLibSectorType startSector, VixDiskLibSectorType numSectors,
   VixDiskLibSectorType chunkSize, VixDiskLibBlockList **blockList);
VIXDISKLIB_EXPORT VixError VixDiskLib_FreeBlockList(VixDiskLibBlockList *blockList);
VIXDISKLIB_EXPORT VixError VixDiskLib_ReadMetadata(VixDiskLibHandle diskHandle, const char *key,
   char *buf, size_t bufLen, size_t *requiredLen);
VIXDISKLIB_EXPORT VixError VixDiskLib_WriteMetadata(VixDiskLibHandle diskHandle, const char *key,
   const char *val);
VIXDISKLIB_EXPORT VixError VixDiskLib_GetMetadataKeys(VixDiskLibHandle diskHandle, char *keys,
   size_t maxLen, size_t *requiredLen);

/* Creating and changing hosted disks. */
VIXDISKLIB_EXPORT VixError VixDiskLib_Create(const VixDiskLibConnection connection,
   const char *path, const VixDiskLibCreateParams *createParams,
   VixDiskLibProgressFunc progressFunc, void *progressCallbackData);
VIXDISKLIB_EXPORT VixError VixDiskLib_CreateChild(VixDiskLibHandle diskHandle,
   const char *childPath, VixDiskLibDiskType diskType, VixDiskLibProgressFunc progressFunc,
   void *progressCallbackData);
VIXDISKLIB_EXPORT VixError VixDiskLib_Unlink(VixDiskLibConnection connection, const char *path);
VIXDISKLIB_EXPORT VixError VixDiskLib_Grow(VixDiskLibConnection connection, const char *path,
   VixDiskLibSectorType capacity, Bool updateGeometry, VixDiskLibProgressFunc progressFunc,
   void *progressCallbackData);
VIXDISKLIB_EXPORT VixError VixDiskLib_Shrink(VixDiskLibHandle diskHandle,
   VixDiskLibProgressFunc progressFunc, void *progressCallbackData);
VIXDISKLIB_EXPORT VixError VixDiskLib_Defragment(VixDiskLibHandle diskHandle,
   VixDiskLibProgressFunc progressFunc, void *progressCallbackData);
VIXDISKLIB_EXPORT VixError VixDiskLib_Rename(const char *srcFileName, const char *dstFileName);
/* VIX_E_INVALID_ARG when the destination is a link of the source's own chain. */
VIXDISKLIB_EXPORT VixError VixDiskLib_Clone(const VixDiskLibConnection dstConnection,
   const char *dstPath, const VixDiskLibConnection srcConnection, const char *srcPath,
   const VixDiskLibCreateParams *createParams, VixDiskLibProgressFunc progressFunc,
   void *progressCallbackData, Bool overWrite);
/* After success the child is the whole chain and owns the files of the parent. The parent handle
 * cannot be used any more, and closing it is refused while the child is open. */
VIXDISKLIB_EXPORT VixError VixDiskLib_Attach(VixDiskLibHandle parent, VixDiskLibHandle child);
VIXDISKLIB_EXPORT VixError VixDiskLib_IsAttachPossible(VixDiskLibHandle parent,
   VixDiskLibHandle child);
VIXDISKLIB_EXPORT VixError VixDiskLib_SpaceNeededForClone(VixDiskLibHandle diskHandle,
   VixDiskLibDiskType cloneDiskType, uint64_t *spaceNeeded);
VIXDISKLIB_EXPORT VixError VixDiskLib_CheckRepair(const VixDiskLibConnection connection,
   const char *filename, Bool repair);

#ifdef __cplusplus
}
#endif
#endif
