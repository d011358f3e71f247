#include "nfc/wire.h"

#include "os/bytes.h"

#include <string.h>

#define MAGIC 0xA100DA7Au
#define PROTOCOL_VERSION 11u
/* Interruption (1) and switching hosts (2) exist; this client does neither. */
#define FEATURES 0u
#define FILE_TYPE_DISK 2u
#define OPEN_READ_ONLY 0x1Eu
#define OPEN_READ_WRITE 0x1Au
#define RESOURCE_POOL_DEFAULT 1u
#define OP_WRITE 0u
#define OP_READ 1u
#define SECTOR 512u

static const char client_name[] = "vreplica";
static const char operation_name[] = "replication";

void vr_put_classic(uint8_t out[VR_CLASSIC_BYTES], uint32_t type)
{
   memset(out, 0, VR_CLASSIC_BYTES);
   vr_put32(out, type);
}

void vr_put_hello(uint8_t out[VR_HELLO_BYTES])
{
   static const char encoding[] = "PlainText";
   vr_put_classic(out, VR_CLASSIC_HANDSHAKE);
   memcpy(out + 4, encoding, sizeof encoding - 1);
   vr_put_classic(out + VR_CLASSIC_BYTES, VR_CLASSIC_PARAMS);
   vr_put_classic(out + 2 * VR_CLASSIC_BYTES, VR_CLASSIC_VERSION);
   vr_put32(out + 2 * VR_CLASSIC_BYTES + 4, PROTOCOL_VERSION);
}

size_t vr_put_start(uint8_t out[VR_START_ROOM])
{
   uint8_t *p = out;
   vr_put_classic(p, VR_CLASSIC_CONNECTION);
   vr_put32(p + 4, sizeof client_name - 1);
   vr_put32(p + 8, sizeof operation_name - 1);
   p += VR_CLASSIC_BYTES;
   memcpy(p, client_name, sizeof client_name - 1);
   p += sizeof client_name - 1;
   memcpy(p, operation_name, sizeof operation_name - 1);
   p += sizeof operation_name - 1;
   vr_put_classic(p, VR_CLASSIC_FEATURES);
   vr_put32(p + 4, FEATURES);
   p += VR_CLASSIC_BYTES;
   vr_put_classic(p, VR_CLASSIC_AIO);
   return (size_t)(p + VR_CLASSIC_BYTES - out);
}

uint32_t vr_classic_type(const uint8_t message[VR_CLASSIC_BYTES])
{
   return vr_le32(message);
}

bool vr_get_greeting(const uint8_t message[VR_CLASSIC_BYTES], vr_nfc_greeting *greeting)
{
   switch (vr_classic_type(message)) {
   case VR_CLASSIC_PARAMS_REPLY:
      if (greeting->acknowledged) {
         return false;
      }
      greeting->acknowledged = true;
      greeting->accepted = vr_le32(message + 16);
      return true;
   case VR_CLASSIC_VERSION:
      if (greeting->version) {
         return false;
      }
      greeting->version = vr_le32(message + 4);
      return greeting->version != 0;
   default:
      return false;
   }
}

bool vr_get_header(const uint8_t in[VR_HEADER_BYTES], vr_nfc_header *header)
{
   *header = (vr_nfc_header){vr_le32(in + 4), vr_le32(in + 8), vr_le32(in + 12)};
   return vr_le32(in) == MAGIC;
}

/* Puts a header, and zeros for the payload; returns the bytes of both. */
static size_t put_frame(uint8_t *out, uint32_t type, uint32_t size, uint32_t op_id)
{
   vr_put32(out, MAGIC);
   vr_put32(out + 4, type);
   vr_put32(out + 8, size);
   vr_put32(out + 12, op_id);
   memset(out + VR_HEADER_BYTES, 0, size);
   return VR_HEADER_BYTES + size;
}

size_t vr_put_open_session(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint32_t buffer_bytes,
   uint32_t buffer_count)
{
   size_t bytes = put_frame(out, VR_AIO_OPEN_SESSION, 16, op_id);
   vr_put32(out + VR_HEADER_BYTES + 4, buffer_bytes);
   vr_put32(out + VR_HEADER_BYTES + 8, buffer_count);
   return bytes;
}

size_t vr_put_socket_options(uint8_t out[VR_FRAME_ROOM], uint32_t op_id)
{
   return put_frame(out, VR_AIO_SOCKET_OPTIONS, 12, op_id);
}

size_t vr_put_resource_pool(uint8_t out[VR_FRAME_ROOM], uint32_t op_id)
{
   size_t bytes = put_frame(out, VR_AIO_RESOURCE_POOL, 4, op_id);
   vr_put32(out + VR_HEADER_BYTES, RESOURCE_POOL_DEFAULT);
   return bytes;
}

size_t vr_put_open_file(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint32_t path_bytes,
   bool read_only)
{
   size_t bytes = put_frame(out, VR_AIO_OPEN_FILE, VR_OPEN_BYTES, op_id);
   uint8_t *p = out + VR_HEADER_BYTES;
   vr_put32(p, path_bytes);
   vr_put32(p + 16, FILE_TYPE_DISK);
   vr_put32(p + 20, read_only ? OPEN_READ_ONLY : OPEN_READ_WRITE);
   return bytes;
}

size_t vr_put_close_file(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint64_t handle)
{
   size_t bytes = put_frame(out, VR_AIO_CLOSE_FILE, 8, op_id);
   vr_put64(out + VR_HEADER_BYTES, handle);
   return bytes;
}

size_t vr_put_close_session(uint8_t out[VR_FRAME_ROOM], uint32_t op_id)
{
   return put_frame(out, VR_AIO_CLOSE_SESSION, 4, op_id);
}

size_t vr_put_ddb_get(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint64_t handle,
   uint32_t key_bytes)
{
   size_t bytes = put_frame(out, VR_AIO_DDB_GET, 16, op_id);
   vr_put64(out + VR_HEADER_BYTES, handle);
   vr_put32(out + VR_HEADER_BYTES + 8, key_bytes);
   return bytes;
}

size_t vr_put_allocated(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint64_t handle,
   uint64_t chunk_bytes, uint64_t start, uint64_t chunks)
{
   size_t bytes = put_frame(out, VR_AIO_ALLOCATED, VR_BLOCKS_BYTES, op_id);
   uint8_t *p = out + VR_HEADER_BYTES;
   vr_put64(p, handle);
   vr_put64(p + 16, chunk_bytes);
   vr_put64(p + 24, start);
   vr_put64(p + 32, chunks);
   return bytes;
}

size_t vr_put_read(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint64_t handle,
   uint32_t compression, uint64_t offset, uint32_t length)
{
   size_t bytes = put_frame(out, VR_AIO_IO, VR_IO_BYTES, op_id);
   uint8_t *p = out + VR_HEADER_BYTES;
   vr_put64(p, handle);
   vr_put32(p + 8, OP_READ);
   vr_put32(p + 12, compression);
   vr_put64(p + 16, offset);
   vr_put64(p + 24, length);
   vr_put32(p + 32, length);
   vr_put32(p + 36, length);
   return bytes;
}

size_t vr_put_fragment(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, const vr_nfc_fragment *f)
{
   size_t bytes = put_frame(out, VR_AIO_IO, VR_IO_BYTES, op_id);
   uint8_t *p = out + VR_HEADER_BYTES;
   vr_put64(p, f->handle);
   vr_put32(p + 8, f->read ? OP_READ : OP_WRITE);
   vr_put32(p + 12, f->compression);
   vr_put64(p + 16, f->offset);
   vr_put32(p + 24, f->total);
   vr_put32(p + 28, f->at);
   vr_put32(p + 32, f->length);
   vr_put32(p + 36, f->wire_length);
   return bytes;
}

bool vr_get_fragment(const uint8_t *payload, size_t size, vr_nfc_fragment *f)
{
   if (size != VR_IO_BYTES || vr_le32(payload + 8) > OP_READ) {
      return false;
   }
   *f = (vr_nfc_fragment){
      .handle = vr_le64(payload),
      .read = vr_le32(payload + 8) == OP_READ,
      .compression = vr_le32(payload + 12),
      .offset = vr_le64(payload + 16),
      .total = vr_le32(payload + 24),
      .at = vr_le32(payload + 28),
      .length = vr_le32(payload + 32),
      .wire_length = vr_le32(payload + 36),
   };
   return true;
}

bool vr_fragment_fits(const vr_nfc_fragment *f, uint64_t offset, uint32_t total, uint32_t buffer)
{
   return f->read && f->offset == offset && f->total == total && f->length && f->length <= buffer
      && f->at < total && f->length <= total - f->at && f->at % SECTOR == 0
      && f->length % SECTOR == 0
      && (f->compression == VR_NFC_PLAIN ? f->wire_length == f->length
                                         : f->compression <= VR_NFC_SKIPZ && f->wire_length
               && f->wire_length <= f->length);
}

bool vr_get_opened(const uint8_t *payload, size_t size, vr_nfc_opened *opened)
{
   if (size != VR_OPEN_BYTES) {
      return false;
   }
   *opened = (vr_nfc_opened){
      .status = vr_le64(payload),
      .handle = vr_le64(payload + 8),
      .capacity_bytes = vr_le64(payload + 28),
      .sector_bytes = vr_le32(payload + 36),
      .cylinders = vr_le32(payload + 40),
      .heads = vr_le32(payload + 44),
      .sectors = vr_le32(payload + 48),
   };
   return true;
}

bool vr_get_session(const uint8_t *payload, size_t size, uint64_t *status)
{
   if (size != 16) {
      return false;
   }
   *status = vr_le64(payload);
   return true;
}

bool vr_get_ddb(const uint8_t *payload, size_t size, uint32_t *value_bytes)
{
   if (size != 16) {
      return false;
   }
   *value_bytes = vr_le32(payload + 12);
   return *value_bytes <= VR_DDB_VALUE_MAX;
}

bool vr_get_allocated(const uint8_t *payload, size_t size, uint64_t *chunks)
{
   if (size != VR_BLOCKS_BYTES) {
      return false;
   }
   *chunks = vr_le64(payload + 32);
   return true;
}

size_t vr_bitmap_bytes(uint64_t chunks)
{
   return (size_t)(vr_ceil_div(chunks, 32) * 4);
}

void vr_host_text(const uint8_t *in, size_t bytes, char out[VR_HOST_TEXT])
{
   size_t length = vr_min(bytes, VR_HOST_TEXT - 1);
   for (size_t i = 0; i < length; i++) {
      out[i] = in[i] >= 0x20 && in[i] < 0x7F ? (char)in[i] : ' ';
   }
   while (length && out[length - 1] == ' ') {
      length--;
   }
   out[length] = 0;
}

/* The longest run of printable characters, if it has at least eight. */
static void find_text(const uint8_t *payload, size_t size, char out[VR_HOST_TEXT])
{
   size_t best = 0;
   size_t longest = 7;
   for (size_t start = 0; start < size;) {
      size_t end = start;
      while (end < size && payload[end] >= 0x20 && payload[end] < 0x7F) {
         end++;
      }
      if (end - start > longest) {
         best = start;
         longest = end - start;
      }
      start = end + 1;
   }
   vr_host_text(payload + best, longest > 7 ? longest : 0, out);
}

bool vr_get_error(const uint8_t *payload, size_t size, vr_nfc_error *error)
{
   *error = (vr_nfc_error){0};
   if (size == 16 && vr_le32(payload + 4) == 0 && vr_le32(payload + 8) == 0) {
      error->code = vr_le64(payload);
      error->text_follows = vr_le32(payload + 12);
      return error->text_follows <= VR_ERROR_MAX;
   }
   for (size_t at = 0; at + 4 <= size && at < 32 && !error->code; at += 4) {
      error->code = vr_le32(payload + at);
   }
   find_text(payload, size, error->text);
   return size > 0;
}
