/* What the answers of vSphere hold, read out of them: pure functions, every value checked. */
#ifndef VR_CONTENT_H
#define VR_CONTENT_H

#include "vim/soap.h"
#include "vim/ticket.h"

#define VR_MOREF_ROOM 256u

/* ServiceContent: the objects that every server has. */
typedef struct {
   bool vcenter; /* else a single ESXi host */
   char version[24];
   char session_manager[VR_MOREF_ROOM];
   char property_collector[VR_MOREF_ROOM];
   char search_index[VR_MOREF_ROOM];
   char root_folder[VR_MOREF_ROOM];
} vr_service_content;

/* One VirtualDisk of a VM or of a snapshot. */
typedef struct {
   bool found;
   int32_t key;
   uint64_t capacity; /* bytes; 0: not said */
} vr_vim_disk;

/* False for text that is no moref, and for one that is too long. */
bool vr_moref_copy(const char *text, char out[VR_MOREF_ROOM]);

/* The readers below return VIX_E_CANNOT_CONNECT_TO_HOST for an answer without what is asked. */
VixError vr_read_service_content(const vr_soap_answer *a, vr_service_content *out);
/* The object of RetrievePropertiesEx with this moref, NULL where it is not in the answer. */
const vr_xml_node *vr_find_object(const vr_soap_answer *a, const char *moref);
/* The value of a property; NULL where the object has none. */
const vr_xml_node *vr_find_property(const vr_soap_answer *a, const vr_xml_node *object,
   const char *path);
/* The disk in whose chain the path is, in an ArrayOfVirtualDevice. */
vr_vim_disk vr_find_disk(const vr_soap_answer *a, const vr_xml_node *devices, const char *path);
/* A HostServiceTicket. `server`, `port` and `thumbprint` stand for what it does not name. Free the
 * ticket in every case. */
VixError vr_read_ticket(const vr_soap_answer *a, const char *server, unsigned port,
   const char *thumbprint, vr_nfc_ticket *out);

#endif
