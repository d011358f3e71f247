/* Create, CreateChild, Attach and Unlink: create, join and delete disks. */
#include "api/connection.h"
#include "api/create.h"
#include "api/disk.h"
#include "api/progress.h"
#include "api/settings.h"
#include "chain/lock.h"
#include "os/path.h"
#include "os/request_threads.h"
#include "os/vix_errno.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

VixError VixDiskLib_Create(const VixDiskLibConnection connection, const char *path,
   const VixDiskLibCreateParams *createParams, VixDiskLibProgressFunc progressFunc,
   void *progressCallbackData)
{
   VixError err = vr_connection_check_local(connection);
   if (err != VIX_OK) {
      return err;
   }
   if (!path || !*path || !createParams) {
      return VIX_E_INVALID_ARG;
   }
   if (connection->read_only) {
      return VIX_E_FILE_READ_ONLY;
   }
   vr_create_plan plan = {
      .type = createParams->diskType,
      .capacity = createParams->capacity,
      .adapter = vr_adapter_name(createParams->adapterType),
      .hw_version = createParams->hwVersion,
   };
   vr_report(progressFunc, progressCallbackData, 0);
   err = vr_create(path, &plan);
   if (err == VIX_OK) {
      vr_report(progressFunc, progressCallbackData, 100);
   }
   return err;
}

VixError VixDiskLib_CreateChild(VixDiskLibHandle diskHandle, const char *childPath,
   VixDiskLibDiskType diskType, VixDiskLibProgressFunc progressFunc, void *progressCallbackData)
{
   VixError err = vr_disk_check(diskHandle);
   if (err != VIX_OK) {
      return err;
   }
   if (!childPath || !*childPath) {
      return VIX_E_INVALID_ARG;
   }
   if (strcmp(diskHandle->mode, "file")) {
      return VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT;
   }
   vr_link *parent = diskHandle->leaf;
   vr_create_plan plan = {.type = diskType, .capacity = parent->capacity, .parent = parent};
   vr_report(progressFunc, progressCallbackData, 0);
   pthread_rwlock_wrlock(&diskHandle->use);
   /* The new child is durable, so the content ID of the parent that it names has to be durable. */
   err = diskHandle->writable ? vr_link_flush(parent) : VIX_OK;
   if (err == VIX_OK) {
      err = vr_create(childPath, &plan);
   }
   if (err == VIX_OK) {
      parent->cid_fresh = false; /* the next write to the parent makes the child invalid */
   }
   pthread_rwlock_unlock(&diskHandle->use);
   if (err == VIX_OK) {
      vr_report(progressFunc, progressCallbackData, 100);
   }
   return err;
}

VixError VixDiskLib_IsAttachPossible(VixDiskLibHandle parent, VixDiskLibHandle child)
{
   VixError err = vr_disk_check(parent);
   if (err == VIX_OK) {
      err = vr_disk_check(child);
   }
   if (err != VIX_OK) {
      return err;
   }
   const vr_link *leaf = child->leaf;
   if (parent == child) {
      return VIX_E_INVALID_ARG;
   }
   if (leaf->descriptor.parent_cid == VR_NO_PARENT) {
      return VIX_E_DISK_ATTACH_ROOTLINK;
   }
   if (!leaf->single || parent->leaf->single) {
      return VIX_E_DISK_INVALIDCHAIN;
   }
   if (leaf->capacity < parent->leaf->capacity) {
      return VIX_E_DISK_CAPACITY_MISMATCH;
   }
   if (vr_link_count(parent->leaf) >= VR_LINKS_MAX) {
      return VIX_E_DISK_TOOMANYREDO;
   }
   return child->writable || leaf->descriptor.parent_cid == parent->leaf->descriptor.cid
      ? VIX_OK
      : VIX_E_DISK_CID_MISMATCH;
}

/* Stores the hint and the content ID of the parent in the child, durably. */
static VixError store_parent(vr_link *child, const vr_link *parent)
{
   char *hint = vr_parent_hint(child->path, parent->path);
   if (!hint) {
      return VIX_E_OUT_OF_MEMORY;
   }
   char *copy = strdup(hint);
   VixError err = copy ? vr_descriptor_make_utf8(&child->descriptor) : VIX_E_OUT_OF_MEMORY;
   if (err == VIX_OK) {
      err = vr_descriptor_set(&child->descriptor, "parentFileNameHint", hint, true);
   }
   free(hint);
   if (err == VIX_OK) {
      err = vr_descriptor_set_cid(&child->descriptor, "parentCID", parent->descriptor.cid);
   }
   if (err == VIX_OK) {
      err = vr_link_store_descriptor(child);
   }
   if (err == VIX_OK) {
      err = vr_link_flush(child);
   }
   if (err == VIX_OK) {
      free(child->descriptor.parent_hint);
      child->descriptor.parent_hint = copy;
   } else {
      free(copy);
   }
   return err;
}

VixError VixDiskLib_Attach(VixDiskLibHandle parent, VixDiskLibHandle child)
{
   VixError err = VixDiskLib_IsAttachPossible(parent, child);
   if (err != VIX_OK) {
      return err;
   }
   vr_requests_wait(&parent->requests);
   vr_requests_wait(&child->requests);
   pthread_rwlock_wrlock(&child->use);
   if (parent->writable) {
      err = vr_link_flush(parent->leaf);
   }
   if (err == VIX_OK && child->writable) {
      err = store_parent(child->leaf, parent->leaf);
   }
   if (err == VIX_OK) {
      if (parent->writable) {
         vr_unlock(parent->leaf->file);
      }
      child->leaf->parent = parent->leaf;
      child->leaf->single = false;
      parent->leaf = NULL;
      parent->attached = true;
      vr_disk **end = &child->attached_parents;
      while (*end) {
         end = &(*end)->attached_parents;
      }
      *end = parent;
   }
   pthread_rwlock_unlock(&child->use);
   return err;
}

VixError VixDiskLib_Unlink(VixDiskLibConnection connection, const char *path)
{
   VixError err = vr_connection_check_local(connection);
   if (err != VIX_OK) {
      return err;
   }
   if (!path || !*path) {
      return VIX_E_INVALID_ARG;
   }
   if (connection->read_only) {
      return VIX_E_FILE_READ_ONLY;
   }
   vr_link *link;
   vr_link_options options = {.writable = true, .outside = vr_settings_get()->outside_extents};
   err = vr_link_load(path, &options, &link);
   if (err != VIX_OK) {
      return err;
   }
   /* The descriptor is deleted last, so that an interrupted Unlink can be repeated. */
   for (size_t i = 0; err == VIX_OK && !link->descriptor_room && i < link->descriptor.extent_count;
        i++) {
      if (!link->descriptor.extents[i].name) {
         continue;
      }
      char *file;
      err = vr_link_extent_path(link, &link->descriptor.extents[i], options.outside, &file);
      if (err == VIX_OK && unlink(file) != 0 && errno != ENOENT) {
         err = vr_errno(errno);
      }
      free(file);
   }
   if (err == VIX_OK) {
      vr_link_remove_leftover(path);
      err = unlink(path) == 0 ? VIX_OK : vr_errno(errno);
   }
   vr_link_close(link);
   return err;
}
