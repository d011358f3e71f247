/* Fuzzes the opening of a session and of a disk: the input is what the host says, from its first
 * classic message on. */
#include "fake_stream.h"
#include "nfc/session.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   static const vr_nfc_config config = VR_NFC_CONFIG_DEFAULT;
   vr_nfc_session s;
   VixError err = vr_session_start(&s, vr_fake_stream(data, bytes), "host", &config, VR_BUFFER_MIN);
   if (err == VIX_OK) {
      err = vr_session_open_file(&s, "[ds] a/a.vmdk", true, 1 << 20, &config);
      if (err == VIX_OK && (!s.file.capacity_bytes || s.file.capacity_bytes % 512)) {
         abort();
      }
   }
   vr_session_close(&s, err == VIX_OK, &config);
   return 0;
}
