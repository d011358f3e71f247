#include "nfc/requests.h"

#include "nfc/compress.h"
#include "os/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define SECTOR 512u

void vr_request_forget(vr_nfc_request *r)
{
   free(r->extra);
   r->extra = NULL;
   r->extra_bytes = 0;
   r->done = false;
   r->result = VIX_OK;
   r->missing = r->length;
   memset(r->got, 0, sizeof r->got);
}

/* A name for messages, such as `reading 4096 bytes at 0`. */
typedef struct {
   char text[160];
} doing;

static doing name_of(const vr_nfc_request *r)
{
   doing d;
   switch (r->kind) {
   case VR_NFC_READ:
   case VR_NFC_WRITE:
      snprintf(d.text, sizeof d.text, "%s %u bytes at %llu",
         r->kind == VR_NFC_READ ? "reading" : "writing", r->length, (unsigned long long)r->offset);
      break;
   case VR_NFC_DDB:
      snprintf(d.text, sizeof d.text, "reading the key %.100s", r->key);
      break;
   case VR_NFC_BLOCKS:
      snprintf(d.text, sizeof d.text, "querying allocated blocks at %llu",
         (unsigned long long)r->offset);
      break;
   default:
      snprintf(d.text, sizeof d.text, "closing the disk");
   }
   return d;
}

/* -- out -- */

static VixError send_write(vr_nfc_session *s, const vr_nfc_request *r,
   const vr_nfc_packing *packing, int64_t deadline_ms)
{
   VixError err = VIX_OK;
   for (uint32_t at = 0; err == VIX_OK && at < r->length;) {
      uint32_t length = (uint32_t)vr_min(s->buffer_bytes, r->length - at);
      vr_nfc_fragment f = {
         .handle = s->file.handle,
         .offset = r->offset,
         .total = r->length,
         .at = at,
         .length = length,
         .wire_length = length,
      };
      const uint8_t *sent = r->data + at;
      size_t packed = packing->compression
         ? vr_pack(packing->compression, sent, length, packing->packed)
         : 0;
      if (packed) {
         f.compression = packing->compression;
         f.wire_length = (uint32_t)packed;
         sent = packing->packed;
      }
      uint8_t frame[VR_FRAME_ROOM];
      struct iovec parts[] = {
         {frame, vr_put_fragment(frame, r->op_id, &f)},
         {(void *)sent, f.wire_length},
      };
      err = vr_stream_writev(s->stream, parts, 2, deadline_ms);
      at += length;
   }
   return err;
}

VixError vr_request_send(vr_nfc_session *s, vr_nfc_request *r, const vr_nfc_packing *packing,
   int64_t deadline_ms)
{
   uint8_t frame[VR_FRAME_ROOM];
   struct iovec parts[] = {{frame, 0}, {(void *)r->key, 0}};
   VixError err = VIX_OK;
   switch (r->kind) {
   case VR_NFC_WRITE:
      err = send_write(s, r, packing, deadline_ms);
      break;
   case VR_NFC_READ:
      parts[0].iov_len = vr_put_read(frame, r->op_id, s->file.handle, packing->compression,
         r->offset, r->length);
      break;
   case VR_NFC_DDB:
      parts[1].iov_len = strlen(r->key);
      parts[0].iov_len = vr_put_ddb_get(frame, r->op_id, s->file.handle,
         (uint32_t)parts[1].iov_len);
      break;
   case VR_NFC_BLOCKS:
      parts[0].iov_len = vr_put_allocated(frame, r->op_id, s->file.handle, r->chunk_bytes,
         r->offset, r->chunks);
      break;
   case VR_NFC_CLOSE:
      parts[0].iov_len = vr_put_close_file(frame, r->op_id, s->file.handle);
      break;
   }
   if (r->kind != VR_NFC_WRITE) {
      err = vr_stream_writev(s->stream, parts, parts[1].iov_len ? 2 : 1, deadline_ms);
   }
   return err == VIX_OK ? VIX_OK : vr_session_lost(s, name_of(r).text, err);
}

/* -- in -- */

static VixError broken(vr_nfc_session *s, const vr_nfc_request *r, const char *reason)
{
   return vr_session_broken(s, name_of(r).text, reason);
}

static VixError receive(vr_nfc_session *s, const vr_nfc_request *r, uint8_t *out, size_t bytes,
   int64_t deadline_ms)
{
   VixError err = vr_stream_read(s->stream, out, bytes, deadline_ms);
   return err == VIX_OK ? VIX_OK : vr_session_lost(s, name_of(r).text, err);
}

static VixError finish(vr_nfc_request *r, VixError result)
{
   r->done = true;
   r->result = result;
   return VIX_OK;
}

/* Marks the sectors of a fragment; false where one of them has come before. */
static bool mark(vr_nfc_request *r, uint32_t at, uint32_t length)
{
   for (uint32_t sector = at / SECTOR; sector < (at + length) / SECTOR; sector++) {
      uint64_t bit = (uint64_t)1 << sector % 64;
      if (r->got[sector / 64] & bit) {
         return false;
      }
      r->got[sector / 64] |= bit;
   }
   return true;
}

static VixError take_data(vr_nfc_session *s, vr_nfc_request *r, const vr_nfc_packing *packing,
   const vr_nfc_fragment *f, int64_t deadline_ms)
{
   if (!vr_fragment_fits(f, r->offset, r->length, s->buffer_bytes)
      || (f->compression && f->compression != packing->compression)) {
      return broken(s, r, "data that was not asked for");
   }
   if (!mark(r, f->at, f->length)) {
      return broken(s, r, "the same data twice");
   }
   uint8_t *out = r->data + f->at;
   VixError err = receive(s, r, f->compression ? packing->packed : out, f->wire_length,
      deadline_ms);
   if (err == VIX_OK && f->compression
      && !vr_unpack(f->compression, packing->packed, f->wire_length, out, f->length)) {
      err = broken(s, r, "data that cannot be unpacked");
   }
   if (err == VIX_OK) {
      r->missing -= f->length;
   }
   return err == VIX_OK && !r->missing ? finish(r, VIX_OK) : err;
}

static VixError take_io(vr_nfc_session *s, vr_nfc_request *r, const vr_nfc_packing *packing,
   const vr_nfc_header *header, const uint8_t *payload, int64_t deadline_ms)
{
   vr_nfc_fragment f;
   if (!vr_get_fragment(payload, header->size, &f)) {
      return broken(s, r, "a reply of another form");
   }
   if (f.handle) { /* a reply has a status there */
      VixError result = vr_session_refused(s, r->op_id, f.handle, name_of(r).text);
      VixError err = vr_session_skip(s, header, payload, deadline_ms);
      return err == VIX_OK ? finish(r, result) : err;
   }
   if (r->kind == VR_NFC_READ) {
      return take_data(s, r, packing, &f, deadline_ms);
   }
   return f.read || f.total != r->length ? broken(s, r, "a reply to another write")
                                         : finish(r, VIX_OK);
}

static VixError take_extra(vr_nfc_session *s, vr_nfc_request *r, size_t bytes,
   int64_t deadline_ms)
{
   r->extra = malloc(bytes + 1); /* a value ends with a NUL */
   if (!r->extra) {
      return broken(s, r, "no memory for the reply");
   }
   r->extra[bytes] = 0;
   r->extra_bytes = bytes;
   VixError err = bytes ? receive(s, r, r->extra, bytes, deadline_ms) : VIX_OK;
   return err == VIX_OK ? finish(r, VIX_OK) : err;
}

VixError vr_request_take(vr_nfc_session *s, vr_nfc_request *r, const vr_nfc_packing *packing,
   const vr_nfc_header *header, const uint8_t *payload, int64_t deadline_ms)
{
   static const uint32_t types[] = {
      [VR_NFC_READ] = VR_AIO_IO,
      [VR_NFC_WRITE] = VR_AIO_IO,
      [VR_NFC_DDB] = VR_AIO_DDB_GET,
      [VR_NFC_BLOCKS] = VR_AIO_ALLOCATED,
      [VR_NFC_CLOSE] = VR_AIO_CLOSE_FILE,
   };
   if (header->type == VR_AIO_ERROR) {
      VixError result;
      VixError err = vr_session_take_error(s, header, payload, name_of(r).text, deadline_ms,
         &result);
      return err == VIX_OK ? finish(r, result) : err;
   }
   if (header->type != types[r->kind]) {
      return broken(s, r, "a reply to something else");
   }
   uint32_t value_bytes;
   uint64_t chunks;
   switch (r->kind) {
   case VR_NFC_DDB:
      return vr_get_ddb(payload, header->size, &value_bytes)
         ? take_extra(s, r, value_bytes, deadline_ms)
         : broken(s, r, "a reply of another form");
   case VR_NFC_BLOCKS:
      return vr_get_allocated(payload, header->size, &chunks) && chunks == r->chunks
         ? take_extra(s, r, vr_bitmap_bytes(chunks), deadline_ms)
         : broken(s, r, "a reply about other blocks");
   case VR_NFC_CLOSE:
      return finish(r, VIX_OK);
   default:
      return take_io(s, r, packing, header, payload, deadline_ms);
   }
}
