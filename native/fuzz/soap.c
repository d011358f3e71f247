/*
 * Fuzzes the answers of vCenter and ESXi: HTTP, XML, SOAP and what is read out of them.
 *
 *    byte 0   the call that is answered      byte 1   the most bytes of one read
 *    the rest is what the server sends; an answer that starts with '<' gets a head of HTTP
 */
#include "vim/content.h"

#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct {
   const uint8_t *at;
   size_t left;
   size_t most;
} feed;

static VixError give(void *data, void *buf, size_t bytes, size_t *got, int64_t deadline_ms)
{
   feed *f = data;
   (void)deadline_ms;
   *got = f->left < bytes ? f->left : bytes;
   *got = *got < f->most ? *got : f->most;
   if (!*got) {
      return VIX_E_HOST_TCP_CONN_LOST;
   }
   memcpy(buf, f->at, *got);
   f->at += *got;
   f->left -= *got;
   return VIX_OK;
}

/* Every string of the tree is within the body: reading it whole is what the sanitizer checks. */
static size_t weigh(const vr_xml *x)
{
   size_t sum = 0;
   for (uint32_t i = 1; i <= x->count; i++) {
      const vr_xml_node *n = &x->nodes[i];
      if (n->child > x->count || n->next > x->count || (n->child && n->child <= i)
         || (n->next && n->next <= i)) {
         abort();
      }
      sum += strlen(n->name) + strlen(n->type) + strlen(n->text);
   }
   return sum;
}

static void use(const vr_soap_answer *a)
{
   vr_service_content content;
   vr_nfc_ticket ticket;
   vr_read_service_content(a, &content);
   const vr_xml_node *object = vr_find_object(a, "vm-1");
   const vr_xml_node *devices = vr_find_property(a, object, "config.hardware.device");
   vr_find_disk(a, devices, "[ds] a/a.vmdk");
   if (vr_read_ticket(a, "10.0.0.1", 902, "", &ticket) == VIX_OK
      && (!ticket.port || strpbrk(ticket.session_id, "\r\n "))) {
      abort(); /* it will be a line of the login to the host */
   }
   vr_nfc_ticket_free(&ticket);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   static const char *const methods[] = {"RetrieveServiceContent", "Login", "RetrievePropertiesEx",
      "FindByInventoryPath", "NfcGetVmFiles"};
   if (bytes < 2) {
      return 0;
   }
   const char *method = methods[data[0] % 5];
   size_t piece = (size_t)data[1] * 64 + 1;
   char *whole = malloc(bytes + 100);
   int head = data[2 % bytes] == '<'
      ? sprintf(whole, "HTTP/1.1 %d OK\r\nContent-Length: %zu\r\n\r\n", data[0] & 8 ? 500 : 200, bytes - 2)
      : 0;
   memcpy(whole + head, data + 2, bytes - 2);
   feed f = {(uint8_t *)whole, (size_t)head + bytes - 2, piece};
   vr_soap_answer answer = {0};
   bool any;
   const char *why;
   if (vr_http_receive(give, &f, 0, &answer.http, &any, &why) == VIX_OK) {
      vr_soap_read(method, &answer);
      weigh(&answer.xml);
      use(&answer);
   }
   vr_soap_answer_free(&answer);
   free(whole);
   return 0;
}
