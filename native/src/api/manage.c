/* Create, CreateChild and Attach: create and join disks. */
#include "api/connection.h"
#include "api/create.h"
#include "api/disk.h"
#include "api/progress.h"
#include "api/settings.h"
#include "chain/link_files.h"
#include "chain/lock.h"
#include "os/log.h"
#include "os/request_threads.h"

#include <stdlib.h>
#include <string.h>

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

/* An error if another writes to this disk, or has written to it since it was opened: the content ID
 * that a child would take for its parent's is then not the one of what is there. */
static VixError check_unchanged(const vr_link *link)
{
   vr_link *now;
   vr_link_options options = {.refuse_locked = true};
   VixError err = vr_link_load(link->path, &options, &now);
   if (err == VIX_OK && now->descriptor.cid != link->descriptor.cid) {
      vr_warn("%s: has changed since it was opened\n", link->path);
      err = VIX_E_DISK_CID_MISMATCH;
   }
   vr_link_close(now);
   return err;
}

VixError VixDiskLib_CreateChild(VixDiskLibHandle diskHandle, const char *childPath,
   VixDiskLibDiskType diskType, VixDiskLibProgressFunc progressFunc, void *progressCallbackData)
{
   VixError err = vr_disk_check_here(diskHandle);
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
   err = diskHandle->writable ? vr_link_flush(parent) : check_unchanged(parent);
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
   VixError err = vr_disk_check_here(parent);
   if (err == VIX_OK) {
      err = vr_disk_check_here(child);
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
      ? vr_link_check_files(leaf, parent->leaf) /* a loop, too */
      : VIX_E_DISK_CID_MISMATCH;
}

/* Stores the hint and the content ID of the parent in the child, durably. */
static VixError store_parent(vr_link *child, const vr_link *parent)
{
   char *hint;
   VixError err = vr_parent_hint(child->path, parent->path, &hint);
   vr_descriptor changed = {.parent_cid = VR_NO_PARENT};
   if (err == VIX_OK) {
      err = vr_descriptor_copy(&child->descriptor, &changed);
   }
   if (err == VIX_OK) {
      err = vr_descriptor_make_utf8(&changed);
   }
   if (err == VIX_OK) {
      err = vr_descriptor_set(&changed, "parentFileNameHint", hint, true);
   }
   if (err == VIX_OK) {
      err = vr_descriptor_set_cid(&changed, "parentCID", parent->descriptor.cid);
   }
   if (err == VIX_OK) {
      free(changed.parent_hint);
      changed.parent_hint = hint;
      hint = NULL;
   }
   free(hint);
   err = vr_link_change_descriptor(child, &changed, err);
   return err == VIX_OK ? vr_link_flush(child) : err;
}

/* Makes sure that the parent stays as it is, and names it in the child. */
static VixError join(vr_disk *parent, vr_disk *child)
{
   bool locks = !parent->writable && child->writable;
   VixError err = parent->writable ? vr_link_flush(parent->leaf) : check_unchanged(parent->leaf);
   if (err == VIX_OK && locks) {
      err = vr_link_lock_parents(parent->leaf);
   }
   if (err == VIX_OK && child->writable) {
      err = store_parent(child->leaf, parent->leaf);
   }
   if (err != VIX_OK && locks) {
      vr_link_unlock(parent->leaf);
   }
   if (err == VIX_OK && parent->writable) { /* from the only writer to one of its readers */
      vr_link_unlock(parent->leaf);
      err = child->writable ? vr_link_lock_parents(parent->leaf) : VIX_OK;
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
   err = join(parent, child);
   if (err == VIX_OK) {
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
