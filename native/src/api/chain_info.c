/* Information about a disk here, from the descriptors of its chain. */
#include "api/disk.h"
#include "chain/geometry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The value of ddb.`key` in the first link that has it; the caller's to free. */
static char *ddb(const vr_link *leaf, const char *key)
{
   char name[128];
   snprintf(name, sizeof name, "ddb.%s", key);
   char *value = NULL;
   for (; leaf && !value; leaf = leaf->parent) {
      value = vr_descriptor_get(&leaf->descriptor, name);
   }
   return value;
}

static uint32_t ddb_number(const vr_link *leaf, const char *key, uint32_t otherwise)
{
   char *text = ddb(leaf, key);
   uint32_t value = text ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
   free(text);
   return value;
}

static VixDiskLibAdapterType adapter(const vr_link *leaf)
{
   char *name = ddb(leaf, "adapterType");
   VixDiskLibAdapterType type = vr_adapter_type(name);
   free(name);
   return type;
}

static VixDiskLibGeometry geometry(const vr_link *leaf)
{
   VixDiskLibGeometry g = {
      .cylinders = ddb_number(leaf, "geometry.cylinders", 0),
      .heads = ddb_number(leaf, "geometry.heads", 0),
      .sectors = ddb_number(leaf, "geometry.sectors", 0),
   };
   if (!g.cylinders || !g.heads || !g.sectors) {
      char *name = ddb(leaf, "adapterType");
      g = vr_geometry(leaf->capacity, name);
      free(name);
   }
   return g;
}

static VixError describe(const vr_link *leaf, VixDiskLibInfo **info)
{
   char *uuid = ddb(leaf, "uuid");
   const char *hint = leaf->descriptor.parent_hint;
   size_t hint_bytes = hint ? strlen(hint) + 1 : 0;
   size_t uuid_bytes = uuid ? strlen(uuid) + 1 : 0;
   VixDiskLibInfo *out = calloc(1, sizeof *out + hint_bytes + uuid_bytes);
   if (!out) {
      free(uuid);
      return VIX_E_OUT_OF_MEMORY;
   }
   char *strings = (char *)(out + 1);
   out->parentFileNameHint = hint ? memcpy(strings, hint, hint_bytes) : NULL;
   out->uuid = uuid ? memcpy(strings + hint_bytes, uuid, uuid_bytes) : NULL;
   free(uuid);
   out->capacity = leaf->capacity;
   out->adapterType = adapter(leaf);
   out->numLinks = vr_link_count(leaf);
   out->physGeo = geometry(leaf);
   out->biosGeo.cylinders = ddb_number(leaf, "geometry.biosCylinders", 0);
   out->biosGeo.heads = ddb_number(leaf, "geometry.biosHeads", 0);
   out->biosGeo.sectors = ddb_number(leaf, "geometry.biosSectors", 0);
   out->logicalSectorSize = ddb_number(leaf, "logicalSectorSize", VIXDISKLIB_SECTOR_SIZE);
   out->physicalSectorSize = ddb_number(leaf, "physicalSectorSize", VIXDISKLIB_SECTOR_SIZE);
   *info = out;
   return VIX_OK;
}

VixError vr_chain_info(vr_disk *disk, VixDiskLibInfo **info)
{
   pthread_rwlock_rdlock(&disk->use); /* an async write may be changing the content ID */
   VixError err = describe(disk->leaf, info);
   pthread_rwlock_unlock(&disk->use);
   return err;
}

VixError vr_chain_metadata(vr_disk *disk, const char *key, char **value)
{
   pthread_rwlock_rdlock(&disk->use);
   *value = ddb(disk->leaf, key);
   pthread_rwlock_unlock(&disk->use);
   return *value ? VIX_OK : VIX_E_DISK_KEY_NOTFOUND;
}

VixError vr_chain_set_metadata(vr_disk *disk, const char *key, const char *value)
{
   char name[128];
   snprintf(name, sizeof name, "ddb.%s", key);
   pthread_rwlock_wrlock(&disk->use);
   vr_descriptor changed;
   VixError err = vr_descriptor_copy(&disk->leaf->descriptor, &changed);
   if (err == VIX_OK) {
      err = vr_descriptor_set(&changed, name, value, true);
      err = vr_link_change_descriptor(disk->leaf, &changed, err);
   }
   pthread_rwlock_unlock(&disk->use);
   return err;
}

/* Calls `found` once with each key of the chain, those of a child before those of its parent. */
static void each_key(const vr_link *leaf, void (*found)(const char *, size_t, void *), void *data)
{
   for (const vr_link *link = leaf; link; link = link->parent) {
      for (size_t i = 0; i < link->descriptor.line_count; i++) {
         const char *key = link->descriptor.lines[i] + strspn(link->descriptor.lines[i], " \t");
         size_t length = strcspn(key, " \t=");
         if (strncmp(key, "ddb.", 4) || length <= 4 || !strchr(key + length, '=')) {
            continue;
         }
         char name[128];
         bool seen = length >= sizeof name;
         snprintf(name, sizeof name, "%.*s", (int)length, key);
         for (const vr_link *above = leaf; !seen && above != link; above = above->parent) {
            char *value = vr_descriptor_get(&above->descriptor, name);
            seen = value;
            free(value);
         }
         if (!seen) {
            found(key + 4, length - 4, data);
         }
      }
   }
}

static void add_length(const char *key, size_t length, void *total)
{
   (void)key;
   *(size_t *)total += length + 1;
}

static void add_key(const char *key, size_t length, void *at)
{
   char **p = at;
   memcpy(*p, key, length);
   (*p)[length] = 0;
   *p += length + 1;
}

VixError vr_chain_metadata_keys(vr_disk *disk, char **keys, size_t *bytes)
{
   *bytes = 1;
   pthread_rwlock_rdlock(&disk->use);
   each_key(disk->leaf, add_length, bytes);
   char *at = *keys = malloc(*bytes);
   if (at) {
      each_key(disk->leaf, add_key, &at);
      *at = 0;
   }
   pthread_rwlock_unlock(&disk->use);
   return *keys ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}
