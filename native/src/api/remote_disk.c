/* A disk at an ESXi host, reached by NFC. */
#include "api/disk.h"

#include "api/settings.h"
#include "nfc/compress.h"
#include "nfc/nfc_disk.h"
#include "os/bytes.h"
#include "os/log.h"
#include "vim/vim.h"

#include <stdlib.h>
#include <string.h>

static VixError move(vr_disk *disk, bool write, const vreplica_Piece *pieces, size_t count,
   size_t *done)
{
   return vr_nfc_move(disk->remote, write, pieces, count, done);
}

static VixError submit(vr_disk *disk, bool write, const vreplica_Piece *piece,
   VixDiskLibCompletionCB callback, void *data)
{
   /* Nothing to move would be no request, and so there would be no thread to call back from. */
   return piece->numSectors ? vr_nfc_submit(disk->remote, write, piece, callback, data)
                            : VIX_E_INVALID_ARG;
}

static void wait_for_requests(vr_disk *disk)
{
   vr_nfc_wait(disk->remote);
}

/* The protocol has no flush. ESXi writes its datastores through: what it has answered is stored. */
static VixError flush(vr_disk *disk)
{
   return vr_nfc_wait(disk->remote);
}

/* The host answers for whole chunks only; a short last one counts as allocated. */
static VixError allocated(vr_disk *disk, uint64_t sector, uint64_t sectors, vr_block_list *blocks)
{
   uint64_t chunks = sectors / blocks->chunk;
   uint8_t *bitmap = NULL;
   VixError err = chunks ? vr_nfc_allocated(disk->remote, sector * VIXDISKLIB_SECTOR_SIZE,
                              blocks->chunk * VIXDISKLIB_SECTOR_SIZE, chunks, &bitmap)
                         : VIX_OK;
   for (uint64_t i = 0; err == VIX_OK && i < chunks; i++) {
      if (bitmap[i / 8] >> i % 8 & 1) {
         err = vr_block_list_add(blocks, sector + i * blocks->chunk, blocks->chunk);
      }
   }
   free(bitmap);
   if (err == VIX_OK && sectors % blocks->chunk) {
      err = vr_block_list_add(blocks, sector + chunks * blocks->chunk, sectors % blocks->chunk);
   }
   return err;
}

enum { ADAPTER, UUID, BIOS_CYLINDERS, BIOS_HEADS, BIOS_SECTORS, INFO_KEYS };

static uint32_t number(const char *text)
{
   return text ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

/* The wire does not tell the chain: numLinks is 1, and there is no hint of a parent. */
static VixError info(vr_disk *disk, VixDiskLibInfo **out)
{
   static const char *const keys[INFO_KEYS] = {
      [ADAPTER] = "adapterType",
      [UUID] = "uuid",
      [BIOS_CYLINDERS] = "geometry.biosCylinders",
      [BIOS_HEADS] = "geometry.biosHeads",
      [BIOS_SECTORS] = "geometry.biosSectors",
   };
   char *values[INFO_KEYS];
   VixError err = vr_nfc_metadata(disk->remote, keys, INFO_KEYS, values);
   if (err != VIX_OK) {
      return err;
   }
   size_t uuid_bytes = values[UUID] ? strlen(values[UUID]) + 1 : 0;
   VixDiskLibInfo *found = calloc(1, sizeof *found + uuid_bytes);
   if (found) {
      *found = (VixDiskLibInfo){
         .capacity = disk->capacity,
         .adapterType = vr_adapter_type(values[ADAPTER]),
         .numLinks = 1,
         .physGeo = vr_nfc_geometry(disk->remote),
         .biosGeo = {number(values[BIOS_CYLINDERS]), number(values[BIOS_HEADS]),
            number(values[BIOS_SECTORS])},
         .uuid = uuid_bytes ? memcpy(found + 1, values[UUID], uuid_bytes) : NULL,
         .logicalSectorSize = VIXDISKLIB_SECTOR_SIZE,
         .physicalSectorSize = VIXDISKLIB_SECTOR_SIZE,
      };
   }
   for (size_t i = 0; i < INFO_KEYS; i++) {
      free(values[i]);
   }
   *out = found;
   return found ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}

static VixError metadata(vr_disk *disk, const char *key, char **value)
{
   VixError err = vr_nfc_metadata(disk->remote, &key, 1, value);
   return err == VIX_OK && !*value ? VIX_E_DISK_KEY_NOTFOUND : err;
}

static VixError set_metadata(vr_disk *disk, const char *key, const char *value)
{
   (void)disk;
   (void)key;
   (void)value;
   return VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT;
}

/* The wire reads one key by its name and has no list, so the keys that ESXi writes are tried. */
static VixError metadata_keys(vr_disk *disk, char **keys, size_t *bytes)
{
   static const char *const known[] = {"adapterType", "deletable", "encoding",
      "geometry.biosCylinders", "geometry.biosHeads", "geometry.biosSectors",
      "geometry.cylinders", "geometry.heads", "geometry.sectors", "longContentID",
      "objectParentUri", "thinProvisioned", "toolsInstallType", "toolsVersion", "uuid",
      "virtualHWVersion"};
   enum { COUNT = sizeof known / sizeof *known };
   char *values[COUNT];
   VixError err = vr_nfc_metadata(disk->remote, known, COUNT, values);
   if (err != VIX_OK) {
      return err;
   }
   *bytes = 1;
   for (size_t i = 0; i < COUNT; i++) {
      *bytes += values[i] ? strlen(known[i]) + 1 : 0;
   }
   char *at = *keys = calloc(1, *bytes);
   for (size_t i = 0; i < COUNT; i++) {
      if (at && values[i]) {
         at = stpcpy(at, known[i]) + 1;
      }
      free(values[i]);
   }
   return *keys ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}

static VixError close_disk(vr_disk *disk)
{
   VixError err = vr_nfc_close(disk->remote);
   vr_connection_release(disk->connection);
   return err;
}

static const vr_disk_ops remote_ops = {
   .move = move,
   .submit = submit,
   .wait = wait_for_requests,
   .flush = flush,
   .allocated = allocated,
   .info = info,
   .metadata = metadata,
   .set_metadata = set_metadata,
   .metadata_keys = metadata_keys,
   .close = close_disk,
};

static VixError new_ticket(void *data, const char *path, bool read_only, vr_nfc_ticket *out)
{
   struct VixDiskLibConnectParam *c = data;
   return vr_vim_new_ticket(c->vim, path, read_only, out);
}

VixError vr_remote_disk_open(vr_disk *disk, VixDiskLibConnection connection, const char *path,
   uint32_t flags)
{
   if (flags & VIXDISKLIB_FLAG_OPEN_SINGLE_LINK) {
      vr_warn("%s: a host gives whole chains; it cannot open a single link\n", path);
      return VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT;
   }
   vr_nfc_target target = {
      .path = path,
      .read_only = !disk->writable,
      .encrypted = strcmp(connection->mode, "nbd") != 0,
      .config = vr_settings_get()->nfc,
      .ticket = new_ticket,
      .data = connection,
   };
   VixError err = vr_compression_of(flags, &target.compression);
   if (err != VIX_OK) {
      vr_warn("%s: the flags %#x name no compression that this library has\n", path, flags);
      return err;
   }
   if (!target.encrypted) {
      vr_warn("%s: nbd sends the content of the disk over the network unencrypted\n", path);
   }
   vr_connection_hold(connection);
   err = vr_nfc_open(&target, &disk->remote);
   if (err != VIX_OK) {
      vr_connection_release(connection);
      return err;
   }
   disk->connection = connection;
   disk->ops = &remote_ops;
   disk->capacity = vr_nfc_capacity(disk->remote) / VIXDISKLIB_SECTOR_SIZE;
   return VIX_OK;
}

VixError vreplica_OnReopen(VixDiskLibHandle diskHandle, vreplica_ReopenCB check, void *data)
{
   VixError err = vr_disk_check(diskHandle);
   if (err == VIX_OK && diskHandle->remote) {
      vr_nfc_on_reopen(diskHandle->remote, check, data);
   }
   return err;
}
