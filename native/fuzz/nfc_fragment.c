/* Fuzzes the replies to requests in flight: reads, plain and packed, a write, a key, allocated
 * blocks. The first byte of the input is the compression that was asked for. */
#include "fake_stream.h"
#include "nfc/requests.h"

#include <stdlib.h>
#include <string.h>

#define READ_BYTES 8192u
#define BUFFER 4096u
#define REQUESTS 5u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_done(const vr_nfc_request *r)
{
   bool whole = true;
   for (unsigned sector = 0; sector < r->length / 512; sector++) {
      whole = whole && (r->got[sector / 64] >> sector % 64 & 1);
   }
   if (r->done && r->result == VIX_OK && r->kind == VR_NFC_READ && (r->missing || !whole)) {
      abort();
   }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
   if (!bytes) {
      return 0;
   }
   vr_nfc_packing packing = {.compression = data[0] % 4, .packed = malloc(BUFFER)};
   vr_nfc_session s = {
      .stream = vr_fake_stream(data + 1, bytes - 1),
      .host = "host",
      .buffer_bytes = BUFFER,
   };
   vr_nfc_request requests[REQUESTS] = {
      {.kind = VR_NFC_READ, .length = READ_BYTES},
      {.kind = VR_NFC_READ, .length = READ_BYTES, .offset = READ_BYTES},
      {.kind = VR_NFC_WRITE, .length = READ_BYTES},
      {.kind = VR_NFC_DDB, .key = "uuid"},
      {.kind = VR_NFC_BLOCKS, .chunk_bytes = 65536, .chunks = 77},
   };
   for (uint32_t i = 0; i < REQUESTS; i++) {
      requests[i].op_id = i;
      requests[i].data = requests[i].length ? calloc(1, READ_BYTES) : NULL;
      vr_request_forget(&requests[i]);
      vr_request_send(&s, &requests[i], &packing, 0);
   }
   VixError err = VIX_OK;
   while (err == VIX_OK && !vr_fake_stream_ended()) {
      vr_nfc_header header;
      uint8_t payload[VR_REPLY_MAX];
      err = vr_session_receive(&s, 0, &header, payload);
      vr_nfc_request *r = header.op_id < REQUESTS ? &requests[header.op_id] : NULL;
      if (err == VIX_OK && r && !r->done) {
         err = vr_request_take(&s, r, &packing, &header, payload, 0);
         check_done(r);
      } else if (err == VIX_OK) {
         err = vr_session_was_refused(&s, header.op_id)
            ? vr_session_skip(&s, &header, payload, 0)
            : VIX_E_HOST_NETBLKDEV_HANDSHAKE;
      }
   }
   for (size_t i = 0; i < REQUESTS; i++) {
      free(requests[i].data);
      vr_request_forget(&requests[i]);
   }
   free(packing.packed);
   return 0;
}
