/* Fuzzes the login at a host: the input is what its daemon says, and a certificate as text. */
#include "fake_stream.h"
#include "nfc/authd.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   static const vr_nfc_config config = VR_NFC_CONFIG_DEFAULT;
   vr_nfc_ticket ticket = {
      .host = "host",
      .port = 902,
      .service = "vpxa-nfc",
      .session_id = "52aa",
      .sha1_thumbprint = "0000000000000000000000000000000000000000",
   };
   vr_stream *stream;
   for (int encrypted = 0; encrypted < 2; encrypted++) {
      vr_fake_stream(data, bytes);
      VixError err = vr_authd_open(&ticket, encrypted, &config, &stream);
      if ((err == VIX_OK) != (stream != NULL)) {
         abort();
      }
   }
   char *text = calloc(1, bytes + 1);
   uint8_t *der = malloc(bytes / 2 + 1);
   if (text && der) {
      memcpy(text, data, bytes);
      if (vr_pem_decode(text, der, bytes / 2) > bytes / 2) {
         abort();
      }
      vr_authd_word(text);
   }
   free(der);
   free(text);
   return 0;
}
