/*
 * Reads the map of the lab's sites, DIR/hosts.map: UTF-8, one record a line, fields separated by
 * TAB.
 *
 *    vcenter    host  port  sha1-thumbprint  user  password
 *    datastore  host  port  name  absolute-folder
 */
#ifndef VR_SITE_MAP_H
#define VR_SITE_MAP_H

#include "vixDiskLib.h"

#include <stdbool.h>

/* Checks user and password. VIX_E_CANNOT_CONNECT_TO_HOST when no vCenter has this name and port,
 * VIX_E_AUTHENTICATION_FAIL for wrong credentials. *trusted: the thumbprint is right. */
VixError vr_site_map_login(const char *root, const char *host, uint32_t port, const char *user,
   const char *password, const char *thumbprint, bool *trusted);

/* Turns "[datastore] folder/disk.vmdk" into a path below the folder of the datastore. Both results
 * are the caller's to free. */
VixError vr_site_map_resolve(const char *root, const char *host, uint32_t port, const char *disk,
   char **folder, char **path);

#endif
