/* Takes paths of disks and extents apart and joins them. The caller frees returned strings. */
#ifndef VR_PATH_H
#define VR_PATH_H

#include <stdbool.h>

/* "a/b.vmdk" -> "a", "b.vmdk" -> ".", "/b" -> "/". NULL when out of memory. */
char *vr_path_folder(const char *path);
/* The name within its folder; points into `path`. */
const char *vr_path_name(const char *path);
/* `name` as seen from the folder of `path`; an absolute name stays. NULL when out of memory. */
char *vr_path_beside(const char *path, const char *name);
/* The name of an extent: "x.vmdk" and "-flat" give "x-flat.vmdk". NULL when out of memory. */
char *vr_path_with_suffix(const char *path, const char *suffix);
/* True if both names lead to one entry of one folder. */
bool vr_path_is_same_file(const char *a, const char *b);
/* True if `path`, after symbolic links, lies in `folder` or below. Its last part need not exist. */
bool vr_path_is_below(const char *folder, const char *path);

#endif
