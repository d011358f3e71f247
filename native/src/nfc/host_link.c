#include "nfc/host_link.h"

#include "nfc/authd.h"
#include "os/log.h"

#include <stdlib.h>
#include <string.h>

static VixError open_session(vr_nfc_link *link, const vr_nfc_ticket *ticket)
{
   const vr_nfc_target *t = &link->target;
   char *host = strdup(ticket->host ? ticket->host : "");
   if (!host) {
      return VIX_E_OUT_OF_MEMORY;
   }
   free(link->host);
   link->host = host;
   vr_stream *stream;
   VixError err = vr_authd_open(ticket, t->encrypted, &t->config, &stream);
   if (err != VIX_OK) {
      return err;
   }
   err = vr_session_start(&link->session, stream, link->host, &t->config, link->buffer_bytes);
   if (err == VIX_OK) {
      err = vr_session_open_file(&link->session, t->path, t->read_only, ticket->capacity,
         &t->config);
   }
   if (err != VIX_OK) {
      vr_nfc_link_close(link, false);
   }
   return err;
}

/* One ticket, one attempt. */
static VixError attempt(vr_nfc_link *link)
{
   vr_nfc_ticket ticket = {0};
   VixError err = link->target.ticket(link->target.data, link->target.path,
      link->target.read_only, &ticket);
   if (err == VIX_OK) {
      link->session = (vr_nfc_session){0};
      err = open_session(link, &ticket);
   }
   vr_nfc_ticket_free(&ticket);
   return err;
}

VixError vr_nfc_link_open(vr_nfc_link *link)
{
   if (!link->buffer_bytes) {
      link->buffer_bytes = link->target.config.buffer_bytes;
   }
   VixError err = attempt(link);
   if (err == VIX_E_AUTHENTICATION_FAIL && link->host) {
      /* The ticket may have expired on its way; where a second one fails too, it was not that. */
      err = attempt(link);
   }
   if (err != VIX_OK && link->session.buffers_refused && link->buffer_bytes > VR_BUFFER_MIN) {
      /* Only ESXi 8 was seen to accept 1-2 MiB. 64 KiB is VDDK's default everywhere. */
      vr_warn("%s: going on with buffers of 64 KiB\n", link->host);
      link->buffer_bytes = VR_BUFFER_MIN;
      err = attempt(link);
   }
   if (err == VIX_OK) {
      link->opens++;
      vr_log("%s on %s is open by %s (NFC %u, %llu bytes)\n", link->target.path, link->host,
         link->target.encrypted ? "nbdssl" : "nbd", link->session.greeting.version,
         (unsigned long long)link->session.file.capacity_bytes);
   }
   return err;
}

void vr_nfc_link_close(vr_nfc_link *link, bool whole)
{
   vr_session_close(&link->session, whole, &link->target.config);
}

bool vr_nfc_link_may_pass(VixError err)
{
   switch (VIX_ERROR_CODE(err)) {
   case VIX_E_FAIL: /* a certificate that is not the one */
   case VIX_E_INVALID_ARG:
   case VIX_E_FILE_NOT_FOUND:
   case VIX_E_NOT_SUPPORTED:
   case VIX_E_INCORRECT_FILE_TYPE:
   case VIX_E_FILE_READ_ONLY:
   case VIX_E_FILE_NAME_INVALID:
   case VIX_E_OBJECT_NOT_FOUND:
   case VIX_E_HOST_USER_PERMISSIONS:
   case VIX_E_VM_NOT_FOUND:
   case VIX_E_SNAPSHOT_NOTFOUND:
   case VIX_E_DISK_OUTOFRANGE:
      return false;
   default:
      return true;
   }
}
