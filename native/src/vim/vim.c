#include "vim/vim.h"

#include "os/log.h"
#include "os/secret.h"
#include "vim/content.h"

#include <pthread.h>
#include <stdio.h>

#define HTTPS_PORT 443u
#define AUTHD_PORT 902u
#define ANSWER_MS 120000u
#define LOGOUT_MS 10000u
#define SECRET_LEAST 4u /* a shorter password is part of any text */
#define VM "VirtualMachine"
#define SNAPSHOT "VirtualMachineSnapshot"
#define DEVICES "config.hardware.device"

struct vr_vim {
   pthread_mutex_t lock; /* round each of the public calls */
   char *server;
   unsigned port;
   unsigned nfc_port;
   char *thumbprint;
   char *user;     /* NULL where a session was given */
   char *password; /* kept, for a session that ends meanwhile */
   bool logged_in; /* by us */
   vr_soap soap;
   vr_service_content content;
   char vm[VR_MOREF_ROOM];
   char snapshot[VR_MOREF_ROOM]; /* "": none */
   const char *service; /* moref of the NFC service, once one has answered */
};

/* Copies a text of the server for the log: without secrets and without control characters. */
static void show(const vr_vim *v, const char *text, char *out, size_t room)
{
   const char *secrets[] = {v->password, v->soap.cookie};
   size_t at = 0;
   while (*text && at + 4 < room) {
      size_t hidden = 0;
      for (size_t i = 0; i < 2 && !hidden; i++) {
         size_t length = secrets[i] ? strlen(secrets[i]) : 0;
         hidden = length >= SECRET_LEAST && !strncmp(text, secrets[i], length) ? length : 0;
      }
      if (hidden) {
         memcpy(out + at, "***", 3);
         at += 3;
         text += hidden;
      } else {
         unsigned char c = (unsigned char)*text++;
         out[at++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
      }
   }
   out[at] = 0;
}

static VixError complain(const vr_vim *v, const char *doing, const vr_soap_answer *a, VixError err)
{
   char text[512];
   char privilege[128];
   if (a->fault[0]) {
      show(v, a->fault_text, text, sizeof text);
      show(v, a->fault_privilege, privilege, sizeof privilege);
      vr_warn("%s:%u: %s: %s: %s%s%s\n", v->server, v->port, doing, a->fault, text,
         privilege[0] ? "; the privilege is " : "", privilege);
   } else {
      /* Whoever failed has warned already. */
      vr_log("%s:%u: %s: error %u\n", v->server, v->port, doing, (unsigned)VIX_ERROR_CODE(err));
   }
   return err;
}

/* Keeps the session that an answer gives. */
static VixError take_cookie(vr_vim *v, const vr_soap_answer *a)
{
   if (!v->user || !a->http.cookie.length || a->http.cookie.failed) {
      return VIX_OK;
   }
   vr_secret_forget(v->soap.cookie);
   v->soap.cookie = vr_secret_keep(a->http.cookie.at);
   return v->soap.cookie ? VIX_OK : VIX_E_OUT_OF_MEMORY;
}

static VixError log_in(vr_vim *v)
{
   vr_soap_answer answer;
   vr_text body = {0};
   vr_secret_forget(v->soap.cookie);
   v->soap.cookie = NULL;
   v->logged_in = false;
   vr_soap_begin(&body, "Login", "SessionManager", v->content.session_manager);
   vr_soap_value(&body, "userName", v->user);
   vr_soap_value(&body, "password", v->password);
   VixError err = vr_soap_call(&v->soap, &body, "Login", &answer);
   vr_text_free(&body);
   if (err == VIX_OK) {
      err = take_cookie(v, &answer);
      v->logged_in = true;
      if (err == VIX_OK && !v->soap.cookie) {
         vr_warn("%s:%u: the login was answered without a session\n", v->server, v->port);
         err = VIX_E_CANNOT_CONNECT_TO_HOST;
      }
   }
   if (err != VIX_OK) {
      complain(v, "the login failed", &answer, err);
   }
   vr_soap_answer_free(&answer);
   return err;
}

/* A call in the session. One that has ended is begun again, once. A fault is not logged. */
static VixError call(vr_vim *v, vr_text *body, const char *method, vr_soap_answer *out)
{
   VixError err = vr_soap_call(&v->soap, body, method, out);
   if (strcmp(out->fault, "NotAuthenticated")) {
      return err;
   }
   if (!v->user) {
      vr_warn("%s:%u: the session given has ended\n", v->server, v->port);
      return err;
   }
   vr_soap_answer_free(out);
   vr_log("%s:%u: the session has ended, logging in again\n", v->server, v->port);
   err = log_in(v);
   return err == VIX_OK ? vr_soap_call(&v->soap, body, method, out) : err;
}

static void add_spec(vr_text *body, const char *type, const char *first, const char *second)
{
   vr_text_addf(body, "<propSet><type>%s</type><all>false</all><pathSet>%s</pathSet>", type, first);
   if (second) {
      vr_text_addf(body, "<pathSet>%s</pathSet>", second);
   }
   vr_text_addf(body, "</propSet>");
}

static void add_object(vr_text *body, const char *type, const char *moref)
{
   vr_text_addf(body, "<objectSet>");
   vr_soap_reference(body, "obj", type, moref);
   vr_text_addf(body, "<skip>false</skip></objectSet>");
}

/* Reads properties of the VM, and one of the snapshot where there is one. */
static VixError retrieve(vr_vim *v, const char *vm_property, const char *vm_second,
   const char *snapshot_property, const char *doing, vr_soap_answer *out)
{
   static const char method[] = "RetrievePropertiesEx";
   vr_text body = {0};
   vr_soap_begin(&body, method, "PropertyCollector", v->content.property_collector);
   vr_text_addf(&body, "<specSet>");
   add_spec(&body, VM, vm_property, vm_second);
   if (v->snapshot[0]) {
      add_spec(&body, SNAPSHOT, snapshot_property, NULL);
   }
   add_object(&body, VM, v->vm);
   if (v->snapshot[0]) {
      add_object(&body, SNAPSHOT, v->snapshot);
   }
   vr_text_addf(&body, "</specSet><options></options>");
   VixError err = call(v, &body, method, out);
   vr_text_free(&body);
   if (err != VIX_OK) {
      if (v->snapshot[0] && !strcmp(out->fault_object, v->snapshot)) {
         err = VIX_E_SNAPSHOT_NOTFOUND;
      }
      complain(v, doing, out, err);
   }
   return err;
}

/* -- the virtual machine -------------------------------------------------------------------- */

static VixError not_found(const vr_vim *v, const char *spec)
{
   vr_warn("%s:%u: there is no virtual machine %s, or the account may not see it\n", v->server,
      v->port, spec);
   return VIX_E_VM_NOT_FOUND;
}

/* Calls a method of SearchIndex. *moref: "" where nothing was found. */
static VixError search(vr_vim *v, vr_text *body, const char *method, char moref[VR_MOREF_ROOM])
{
   vr_soap_answer answer;
   moref[0] = 0;
   VixError err = call(v, body, method, &answer);
   if (err == VIX_OK) {
      vr_moref_copy(vr_xml_value(&answer.xml, answer.result, "returnval"), moref);
   } else {
      complain(v, "the virtual machine cannot be looked for", &answer, err);
   }
   vr_soap_answer_free(&answer);
   return err;
}

static VixError by_inventory_path(vr_vim *v, const char *path, char moref[VR_MOREF_ROOM])
{
   vr_text body = {0};
   vr_soap_begin(&body, "FindByInventoryPath", "SearchIndex", v->content.search_index);
   vr_soap_value(&body, "inventoryPath", path);
   VixError err = search(v, &body, "FindByInventoryPath", moref);
   vr_text_free(&body);
   return err;
}

/* "dir/x.vmx?dcPath=P&dsName=D", or with "[D] " in front and dcPath alone. */
static VixError by_file(vr_vim *v, const char *spec, const char *query)
{
   char datacenter[VR_MOREF_ROOM];
   const char *dc = strstr(query, "dcPath=");
   const char *ds = strstr(query, "dsName=");
   vr_text path = {0};
   if (!dc || (!ds && *spec != '[')) {
      vr_warn("%s: a path of a file needs ?dcPath=...&dsName=...\n", spec);
      return VIX_E_INVALID_ARG;
   }
   vr_text_add(&path, dc + 7, strcspn(dc + 7, "&"));
   VixError err = path.failed ? VIX_E_INVALID_ARG : by_inventory_path(v, path.at, datacenter);
   vr_text_free(&path);
   if (err != VIX_OK || !datacenter[0]) {
      return err != VIX_OK ? err : not_found(v, spec);
   }
   if (*spec != '[') {
      vr_text_addf(&path, "[%.*s] ", (int)strcspn(ds + 7, "&"), ds + 7);
   }
   vr_text_add(&path, spec, (size_t)(query - spec));
   vr_text body = {.failed = path.failed};
   if (!path.failed) {
      vr_soap_begin(&body, "FindByDatastorePath", "SearchIndex", v->content.search_index);
      vr_soap_reference(&body, "datacenter", "Datacenter", datacenter);
      vr_soap_value(&body, "path", path.at);
   }
   err = body.failed ? VIX_E_INVALID_ARG : search(v, &body, "FindByDatastorePath", v->vm);
   vr_text_free(&body);
   vr_text_free(&path);
   return err;
}

static VixError find_vm(vr_vim *v, const char *spec)
{
   VixError err = VIX_OK;
   const char *query = strstr(spec, "?dcPath=");
   query = query ? query : strstr(spec, "?dsName=");
   if (!strncmp(spec, "moref=", 6)) {
      if (!vr_moref_copy(spec + 6, v->vm)) {
         vr_warn("%s: this is no moref\n", spec);
         return VIX_E_INVALID_ARG;
      }
   } else if (query || *spec == '[') {
      err = by_file(v, spec, query ? query : spec + strlen(spec));
   } else {
      err = by_inventory_path(v, spec, v->vm);
   }
   return err == VIX_OK && !v->vm[0] ? not_found(v, spec) : err;
}

/* The VM is there, and the snapshot is one of its own. */
static VixError check_vm(vr_vim *v)
{
   vr_soap_answer answer;
   VixError err = retrieve(v, "name", NULL, "vm", "the virtual machine cannot be read", &answer);
   if (err == VIX_OK && !vr_find_object(&answer, v->vm)) {
      err = not_found(v, v->vm);
   }
   if (err == VIX_OK && v->snapshot[0]) {
      const vr_xml_node *snapshot = vr_find_object(&answer, v->snapshot);
      const vr_xml_node *owner = vr_find_property(&answer, snapshot, "vm");
      if (!snapshot || (owner && strcmp(owner->text, v->vm))) {
         vr_warn("%s:%u: %s has no snapshot %s\n", v->server, v->port, v->vm, v->snapshot);
         err = VIX_E_SNAPSHOT_NOTFOUND;
      }
   }
   vr_soap_answer_free(&answer);
   return err;
}

/* -- open and close ------------------------------------------------------------------------- */

static VixError read_content(vr_vim *v)
{
   vr_soap_answer answer;
   vr_text body = {0};
   vr_soap_begin(&body, "RetrieveServiceContent", "ServiceInstance", "ServiceInstance");
   VixError err = vr_soap_call(&v->soap, &body, "RetrieveServiceContent", &answer);
   vr_text_free(&body);
   if (err != VIX_OK) {
      complain(v, "it cannot be asked what it is", &answer, err);
   } else if ((err = vr_read_service_content(&answer, &v->content)) != VIX_OK) {
      vr_warn("%s:%u: this is no vCenter and no ESXi host\n", v->server, v->port);
   } else {
      /* The newest version that the server has: fields that came later are in no older answer. */
      snprintf(v->soap.version, sizeof v->soap.version, "urn:vim25/%s", v->content.version);
   }
   vr_soap_answer_free(&answer);
   return err;
}

/* "vmware_soap_session=..." as a browser would send it, from that or from the value alone. */
static char *cookie_of(const char *given)
{
   static const char name[] = "vmware_soap_session=";
   vr_text text = {0};
   bool whole = !strncmp(given, name, sizeof name - 1);
   const char *quote = whole || *given == '"' ? "" : "\"";
   if (!*given || strpbrk(given, ";, \r\n\t")) {
      return NULL;
   }
   vr_text_addf(&text, "%s%s%s%s", whole ? "" : name, quote, given, quote);
   char *kept = text.failed ? NULL : vr_secret_keep(text.at);
   vr_text_free(&text);
   return kept;
}

static char *copy(const char *text)
{
   return strdup(text ? text : "");
}

static vr_vim *new_vim(const vr_vim_target *t)
{
   vr_vim *v = calloc(1, sizeof *v);
   if (!v) {
      return NULL;
   }
   pthread_mutex_init(&v->lock, NULL);
   v->port = t->port ? t->port : HTTPS_PORT;
   v->nfc_port = t->nfc_port ? t->nfc_port : AUTHD_PORT;
   v->server = copy(t->server);
   v->thumbprint = copy(t->thumbprint);
   v->user = t->user ? copy(t->user) : NULL;
   v->password = t->user ? vr_secret_keep(t->password) : NULL;
   v->soap.cookie = t->user ? NULL : cookie_of(t->cookie);
   const vr_http_server server = {
      .server = v->server, .port = v->port, .thumbprint = v->thumbprint, .legacy_tls = t->legacy_tls};
   v->soap.http = vr_http_new(&server);
   strcpy(v->soap.version, "urn:vim25");
   v->soap.timeout_ms = t->answer_ms ? t->answer_ms : ANSWER_MS;
   if (!v->server || !v->thumbprint || !v->soap.http || (t->user && (!v->user || !v->password))) {
      vr_vim_close(v);
      return NULL;
   }
   return v;
}

VixError vr_vim_open(const vr_vim_target *t, vr_vim **out)
{
   *out = NULL;
   if (!t->server || !t->vmx_spec || (t->user ? !t->password : !t->cookie)) {
      return VIX_E_INVALID_ARG;
   }
   vr_vim *v = new_vim(t);
   if (!v) {
      return VIX_E_OUT_OF_MEMORY;
   }
   const char *snapshot = t->snapshot ? t->snapshot : "";
   snapshot += strncmp(snapshot, "moref=", 6) ? 0 : 6;
   VixError err = VIX_OK;
   if ((!t->user && !v->soap.cookie) || (*snapshot && !vr_moref_copy(snapshot, v->snapshot))) {
      vr_warn("%s: this is no %s\n", v->server, v->user || v->soap.cookie ? "snapshot" : "session");
      err = VIX_E_INVALID_ARG;
   }
   if (err == VIX_OK) {
      err = read_content(v);
   }
   if (err == VIX_OK && v->user) {
      err = log_in(v);
   }
   if (err == VIX_OK) {
      err = find_vm(v, t->vmx_spec);
   }
   if (err == VIX_OK) {
      err = check_vm(v);
   }
   if (err == VIX_OK) {
      *out = v;
   } else {
      vr_vim_close(v);
   }
   return err;
}

void vr_vim_close(vr_vim *v)
{
   if (!v) {
      return;
   }
   if (v->logged_in) {
      vr_soap_answer answer;
      vr_text body = {0};
      v->soap.timeout_ms = v->soap.timeout_ms < LOGOUT_MS ? v->soap.timeout_ms : LOGOUT_MS;
      vr_soap_begin(&body, "Logout", "SessionManager", v->content.session_manager);
      if (vr_soap_call(&v->soap, &body, "Logout", &answer) != VIX_OK) {
         vr_log("%s:%u: the logout was not answered\n", v->server, v->port);
      }
      vr_soap_answer_free(&answer);
      vr_text_free(&body);
   }
   vr_http_free(v->soap.http);
   vr_secret_forget(v->soap.cookie);
   vr_secret_forget(v->password);
   free(v->server);
   free(v->thumbprint);
   free(v->user);
   pthread_mutex_destroy(&v->lock);
   free(v);
}

/* -- tickets -------------------------------------------------------------------------------- */

typedef struct {
   vr_vim_disk disk;
   char host[VR_MOREF_ROOM]; /* "": the account may not see it */
} place;

/* Looks up where the disk is now: the VM may have moved since the last ticket. */
static VixError look_up(vr_vim *v, const char *path, place *out)
{
   vr_soap_answer answer;
   *out = (place){0};
   VixError err = retrieve(v, "runtime.host", DEVICES, DEVICES, "the VM's disks cannot be read",
      &answer);
   if (err == VIX_OK) {
      const vr_xml_node *vm = vr_find_object(&answer, v->vm);
      const vr_xml_node *host = vr_find_property(&answer, vm, "runtime.host");
      const vr_xml_node *snapshot = v->snapshot[0] ? vr_find_object(&answer, v->snapshot) : NULL;
      vr_moref_copy(host ? host->text : NULL, out->host);
      out->disk = vr_find_disk(&answer, vr_find_property(&answer, vm, DEVICES), path);
      vr_vim_disk then = vr_find_disk(&answer, vr_find_property(&answer, snapshot, DEVICES), path);
      if (then.found) {
         out->disk = out->disk.found ? (vr_vim_disk){true, out->disk.key, then.capacity} : then;
      }
   }
   vr_soap_answer_free(&answer);
   return err;
}

static const char *method_of(bool read_only)
{
   return read_only ? "NfcGetVmFiles" : "NfcRandomAccessOpenDisk";
}

/* Asks one NFC service for a ticket. */
static VixError ask(vr_vim *v, const char *service, const place *at, bool read_only,
   vr_soap_answer *answer)
{
   vr_text body = {0};
   vr_soap_begin(&body, method_of(read_only), "NfcService", service);
   vr_soap_reference(&body, "vm", VM, v->vm);
   if (!read_only) {
      vr_text_addf(&body, "<diskDeviceKey>%d</diskDeviceKey>", at->disk.key);
      vr_soap_reference(&body, "hostForAccess", "HostSystem", at->host);
   }
   VixError err = call(v, &body, method_of(read_only), answer);
   vr_text_free(&body);
   return err;
}

/* True where the server does not have the object that was asked. */
static bool is_missing(const vr_soap_answer *answer, const char *service)
{
   return !strcmp(answer->fault, "ManagedObjectNotFound") && !strcmp(answer->fault_object, service);
}

/* Asks the service by the name that it has there; keeps the name that was right. */
static VixError ask_services(vr_vim *v, const place *at, bool read_only, vr_soap_answer *answer)
{
   /* A single host was observed with the first name; VDDK's library also holds the second. */
   const char *name = v->service ? v->service : v->content.vcenter ? "nfcService" : "ha-nfc-service";
   VixError err = ask(v, name, at, read_only, answer);
   if (is_missing(answer, name) && !v->service && !v->content.vcenter) {
      vr_soap_answer_free(answer);
      name = "ha-nfc";
      err = ask(v, name, at, read_only, answer);
   }
   if (is_missing(answer, name)) {
      return VIX_E_NOT_SUPPORTED; /* a server without the service */
   }
   v->service = err == VIX_OK ? name : v->service;
   return err;
}

static VixError new_ticket(vr_vim *v, const char *path, bool read_only, vr_nfc_ticket *out)
{
   place at;
   VixError err = look_up(v, path, &at);
   if (err != VIX_OK) {
      return err;
   }
   if (!read_only && !at.disk.found) {
      vr_warn("%s:%u: no disk of %s has %s in its chain\n", v->server, v->port, v->vm, path);
      return VIX_E_FILE_NOT_FOUND;
   }
   if (!read_only && !at.host[0]) {
      vr_warn("%s:%u: the account cannot see the host of %s: give it Read-only there\n", v->server,
         v->port, v->vm);
      return VIX_E_HOST_USER_PERMISSIONS;
   }
   vr_soap_answer answer;
   err = ask_services(v, &at, read_only, &answer);
   if (err != VIX_OK) {
      complain(v, read_only ? "no ticket to read the disk" : "no ticket to write the disk", &answer,
         err);
   } else {
      /* A single host has one certificate for all its ports. */
      err = vr_read_ticket(&answer, v->server, v->nfc_port,
         v->content.vcenter ? "" : vr_http_peer(v->soap.http), out);
      out->capacity = at.disk.capacity;
      if (err != VIX_OK) {
         vr_warn("%s:%u: a ticket that cannot be used\n", v->server, v->port);
      }
   }
   vr_soap_answer_free(&answer);
   return err;
}

VixError vr_vim_new_ticket(vr_vim *v, const char *disk_path, bool read_only, vr_nfc_ticket *out)
{
   *out = (vr_nfc_ticket){0};
   pthread_mutex_lock(&v->lock);
   VixError err = new_ticket(v, disk_path, read_only, out);
   pthread_mutex_unlock(&v->lock);
   if (err != VIX_OK) {
      vr_nfc_ticket_free(out);
   }
   return err;
}
