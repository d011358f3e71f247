#include "vim/content.h"

#include "os/secret.h"

#include <errno.h>
#include <stdio.h>

static bool printable(const char *text)
{
   for (; *text; text++) {
      if (*text < 0x20 || *text > 0x7e) {
         return false;
      }
   }
   return true;
}

bool vr_moref_copy(const char *text, char out[VR_MOREF_ROOM])
{
   size_t length = text ? strlen(text) : 0;
   if (!length || length >= VR_MOREF_ROOM || !printable(text)) {
      return false;
   }
   memcpy(out, text, length + 1);
   return true;
}

static VixError wrong(void)
{
   return VIX_E_CANNOT_CONNECT_TO_HOST;
}

VixError vr_read_service_content(const vr_soap_answer *a, vr_service_content *out)
{
   const vr_xml *x = &a->xml;
   const vr_xml_node *content = vr_xml_child(x, a->result, "returnval");
   const vr_xml_node *about = vr_xml_child(x, content, "about");
   const char *type = vr_xml_value(x, about, "apiType");
   const char *version = vr_xml_value(x, about, "apiVersion");
   *out = (vr_service_content){0};
   if (!type || !version || !*version || strlen(version) >= sizeof out->version
      || version[strspn(version, "0123456789.")]
      || !vr_moref_copy(vr_xml_value(x, content, "sessionManager"), out->session_manager)
      || !vr_moref_copy(vr_xml_value(x, content, "propertyCollector"), out->property_collector)
      || !vr_moref_copy(vr_xml_value(x, content, "rootFolder"), out->root_folder)) {
      return wrong();
   }
   vr_moref_copy(vr_xml_value(x, content, "searchIndex"), out->search_index);
   strcpy(out->version, version);
   out->vcenter = !strcmp(type, "VirtualCenter");
   return out->vcenter || !strcmp(type, "HostAgent") ? VIX_OK : wrong();
}

const vr_xml_node *vr_find_object(const vr_soap_answer *a, const char *moref)
{
   const vr_xml *x = &a->xml;
   const vr_xml_node *n = vr_xml_first(x, vr_xml_child(x, a->result, "returnval"));
   for (; n; n = vr_xml_next(x, n)) {
      const char *found = strcmp(n->name, "objects") ? NULL : vr_xml_value(x, n, "obj");
      if (found && !strcmp(found, moref)) {
         return n;
      }
   }
   return NULL;
}

const vr_xml_node *vr_find_property(const vr_soap_answer *a, const vr_xml_node *object,
   const char *path)
{
   const vr_xml *x = &a->xml;
   for (const vr_xml_node *n = vr_xml_first(x, object); n; n = vr_xml_next(x, n)) {
      const char *name = strcmp(n->name, "propSet") ? NULL : vr_xml_value(x, n, "name");
      if (name && !strcmp(name, path)) {
         return vr_xml_child(x, n, "val");
      }
   }
   return NULL;
}

static bool whole_number(const char *text, uint64_t most, uint64_t *out)
{
   char *end;
   if (!text || *text < '0' || *text > '9') {
      return false;
   }
   errno = 0;
   *out = strtoull(text, &end, 10);
   return !errno && !*end && *out <= most;
}

static bool in_chain(const vr_xml *x, const vr_xml_node *device, const char *path)
{
   const vr_xml_node *backing = vr_xml_child(x, device, "backing");
   for (; backing; backing = vr_xml_child(x, backing, "parent")) {
      const char *file = vr_xml_value(x, backing, "fileName");
      if (file && !strcmp(file, path)) {
         return true;
      }
   }
   return false;
}

vr_vim_disk vr_find_disk(const vr_soap_answer *a, const vr_xml_node *devices, const char *path)
{
   const vr_xml *x = &a->xml;
   for (const vr_xml_node *n = vr_xml_first(x, devices); n; n = vr_xml_next(x, n)) {
      uint64_t key;
      uint64_t capacity;
      if (strcmp(n->type, "VirtualDisk") || !in_chain(x, n, path)
         || !whole_number(vr_xml_value(x, n, "key"), INT32_MAX, &key)) {
         continue;
      }
      vr_vim_disk disk = {.found = true, .key = (int32_t)key};
      if (whole_number(vr_xml_value(x, n, "capacityInBytes"), INT64_MAX, &capacity)) {
         disk.capacity = capacity;
      } else if (whole_number(vr_xml_value(x, n, "capacityInKB"), INT64_MAX / 1024, &capacity)) {
         disk.capacity = capacity * 1024;
      }
      return disk;
   }
   return (vr_vim_disk){0};
}

static bool copy(char **out, const char *text, const char *fallback, bool needed)
{
   if (!text || !*text) {
      text = fallback;
   }
   if (!text || strlen(text) > 4096 || (needed && !*text) || !printable(text) || strchr(text, ' ')) {
      return false;
   }
   *out = strdup(text);
   return *out;
}

VixError vr_read_ticket(const vr_soap_answer *a, const char *server, unsigned port,
   const char *thumbprint, vr_nfc_ticket *out)
{
   const vr_xml *x = &a->xml;
   const vr_xml_node *t = vr_xml_child(x, a->result, "returnval");
   const char *named = vr_xml_value(x, t, "port");
   const char *pem = vr_xml_value(x, t, "sslCertificate");
   uint64_t number = port;
   *out = (vr_nfc_ticket){0};
   if (!t || (named && *named && !whole_number(named, 65535, &number)) || !number
      || !copy(&out->host, vr_xml_value(x, t, "host"), server, true)
      || !copy(&out->service, vr_xml_value(x, t, "service"), NULL, true)
      || !copy(&out->session_id, vr_xml_value(x, t, "sessionId"), NULL, true)
      || !copy(&out->sha1_thumbprint, vr_xml_value(x, t, "sslThumbprint"), thumbprint, false)) {
      return wrong();
   }
   out->port = (unsigned)number;
   if (pem && *pem) {
      out->certificate_pem = strdup(pem);
      return out->certificate_pem ? VIX_OK : VIX_E_OUT_OF_MEMORY;
   }
   return VIX_OK;
}

void vr_nfc_ticket_free(vr_nfc_ticket *t)
{
   vr_wipe_text(t->session_id);
   free(t->host);
   free(t->service);
   free(t->sha1_thumbprint);
   free(t->certificate_pem);
   *t = (vr_nfc_ticket){0};
}
