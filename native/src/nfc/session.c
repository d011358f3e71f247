#include "nfc/session.h"

#include "os/bytes.h"
#include "os/clock.h"
#include "os/log.h"

#include <string.h>
#include <sys/uio.h>

#define SECTOR 512u
#define PATH_MAX_BYTES 4096u

VixError vr_session_broken(vr_nfc_session *s, const char *doing, const char *reason)
{
   vr_warn("%s: %s: %s; the connection is given up\n", s->host, doing, reason);
   return VIX_E_HOST_NETBLKDEV_HANDSHAKE;
}

VixError vr_session_lost(vr_nfc_session *s, const char *doing, VixError err)
{
   vr_warn("%s: %s: %s\n", s->host, doing, vr_stream_error(s->stream));
   return err;
}

/* -- frames in -- */

static VixError discard(vr_nfc_session *s, size_t bytes, int64_t deadline_ms)
{
   uint8_t dropped[4096];
   VixError err = VIX_OK;
   while (err == VIX_OK && bytes) {
      size_t piece = vr_min(bytes, sizeof dropped);
      err = vr_stream_read(s->stream, dropped, piece, deadline_ms);
      bytes -= piece;
   }
   return err;
}

VixError vr_session_receive(vr_nfc_session *s, int64_t deadline_ms, vr_nfc_header *header,
   uint8_t payload[VR_REPLY_MAX])
{
   uint8_t head[VR_HEADER_BYTES];
   VixError err = vr_stream_read(s->stream, head, sizeof head, deadline_ms);
   if (err != VIX_OK) {
      return vr_session_lost(s, "waiting for a reply", err);
   }
   if (!vr_get_header(head, header)) {
      return vr_session_broken(s, "waiting for a reply", "these are no NFC frames");
   }
   if (header->size > (header->type == VR_AIO_ERROR ? VR_ERROR_MAX : VR_REPLY_MAX)) {
      return vr_session_broken(s, "waiting for a reply", "a frame is too large");
   }
   size_t kept = vr_min(header->size, VR_REPLY_MAX);
   err = kept ? vr_stream_read(s->stream, payload, kept, deadline_ms) : VIX_OK;
   if (err == VIX_OK) {
      err = discard(s, header->size - kept, deadline_ms);
   }
   return err == VIX_OK ? VIX_OK : vr_session_lost(s, "reading a reply", err);
}

static void remember(vr_nfc_session *s, uint32_t op_id)
{
   s->refused[s->refused_count++ % VR_REFUSED_ROOM] = op_id;
}

bool vr_session_was_refused(const vr_nfc_session *s, uint32_t op_id)
{
   for (size_t i = 0; i < vr_min(s->refused_count, VR_REFUSED_ROOM); i++) {
      if (s->refused[i] == op_id) {
         return true;
      }
   }
   return false;
}

/* Hosts log "NFC error 5 ... Failed to allocate the requested N bytes" when short of memory. */
static VixError code_of(uint64_t code, const char *text)
{
   bool memory = code == 5 || strcasestr(text, "failed to allocate the requested");
   VixError low = VIX_ERROR_CODE(code);
   return memory ? VIX_E_OUT_OF_MEMORY : low ? low : VIX_E_FAIL;
}

static void log_refusal(const vr_nfc_session *s, const char *doing, const char *text, uint64_t code)
{
   vr_warn("%s: %s: the host says: %s (code %llu)\n", s->host, doing, *text ? text : "no",
      (unsigned long long)code);
}

VixError vr_session_take_error(vr_nfc_session *s, const vr_nfc_header *header,
   const uint8_t *payload, const char *doing, int64_t deadline_ms, VixError *result)
{
   vr_nfc_error error;
   size_t size = vr_min(header->size, VR_REPLY_MAX);
   if (!vr_get_error(payload, size, &error)) {
      return vr_session_broken(s, doing, "an error without a code");
   }
   if (error.text_follows) {
      uint8_t text[VR_HOST_TEXT];
      size_t kept = vr_min(error.text_follows, sizeof text);
      VixError err = vr_stream_read(s->stream, text, kept, deadline_ms);
      if (err == VIX_OK) {
         err = discard(s, error.text_follows - kept, deadline_ms);
      }
      if (err != VIX_OK) {
         return vr_session_lost(s, doing, err);
      }
      vr_host_text(text, kept, error.text);
   }
   log_refusal(s, doing, error.text, error.code);
   remember(s, header->op_id);
   *result = code_of(error.code, error.text);
   return VIX_OK;
}

VixError vr_session_refused(vr_nfc_session *s, uint32_t op_id, uint64_t status, const char *doing)
{
   log_refusal(s, doing, "", status);
   remember(s, op_id);
   return code_of(status, "");
}

VixError vr_session_skip(vr_nfc_session *s, const vr_nfc_header *header, const uint8_t *payload,
   int64_t deadline_ms)
{
   vr_nfc_fragment fragment;
   uint32_t value;
   uint64_t chunks;
   size_t extra = 0;
   switch (header->type) {
   case VR_AIO_IO:
      if (vr_get_fragment(payload, header->size, &fragment) && fragment.read) {
         extra = fragment.wire_length;
      }
      break;
   case VR_AIO_DDB_GET:
      extra = vr_get_ddb(payload, header->size, &value) ? value : 0;
      break;
   case VR_AIO_ALLOCATED:
      if (vr_get_allocated(payload, header->size, &chunks)) {
         extra = chunks <= VIXDISKLIB_MAX_CHUNK_NUMBER ? vr_bitmap_bytes(chunks) : SIZE_MAX;
      }
      break;
   }
   if (extra > VR_BUFFER_MAX) {
      return vr_session_broken(s, "reading a reply", "it is too large");
   }
   VixError err = discard(s, extra, deadline_ms);
   return err == VIX_OK ? VIX_OK : vr_session_lost(s, "reading a reply", err);
}

/* -- one request alone, before others are in flight -- */

/* Sends a frame with its extra, and waits for the answer. *refusal: the host's error, or VIX_OK;
 * the result tells of the connection. */
static VixError call(vr_nfc_session *s, const uint8_t *frame, size_t bytes, const char *extra,
   int64_t deadline_ms, const char *doing, uint8_t payload[VR_REPLY_MAX], size_t *size,
   VixError *refusal)
{
   vr_nfc_header sent;
   vr_get_header(frame, &sent);
   struct iovec parts[] = {{(void *)frame, bytes}, {(void *)extra, extra ? strlen(extra) : 0}};
   VixError err = vr_stream_writev(s->stream, parts, extra ? 2 : 1, deadline_ms);
   if (err != VIX_OK) {
      return vr_session_lost(s, doing, err);
   }
   for (;;) {
      vr_nfc_header header;
      err = vr_session_receive(s, deadline_ms, &header, payload);
      if (err != VIX_OK) {
         return err;
      }
      if (header.op_id == sent.op_id && header.type == VR_AIO_ERROR) {
         return vr_session_take_error(s, &header, payload, doing, deadline_ms, refusal);
      }
      if (header.op_id == sent.op_id && header.type == sent.type) {
         *refusal = VIX_OK;
         *size = header.size;
         return VIX_OK;
      }
      if (!vr_session_was_refused(s, header.op_id)) {
         return vr_session_broken(s, doing, "a reply to something else");
      }
      err = vr_session_skip(s, &header, payload, deadline_ms);
      if (err != VIX_OK) {
         return err;
      }
   }
}

/* -- opening -- */

static VixError hear(vr_nfc_session *s, uint8_t message[VR_CLASSIC_BYTES], int64_t deadline_ms)
{
   VixError err = vr_stream_read(s->stream, message, VR_CLASSIC_BYTES, deadline_ms);
   return err == VIX_OK ? VIX_OK : vr_session_lost(s, "the NFC handshake", err);
}

static VixError say(vr_nfc_session *s, const uint8_t *bytes, size_t count, int64_t deadline_ms)
{
   VixError err = vr_stream_write(s->stream, bytes, count, deadline_ms);
   return err == VIX_OK ? VIX_OK : vr_session_lost(s, "the NFC handshake", err);
}

static VixError handshake(vr_nfc_session *s, int64_t deadline_ms)
{
   uint8_t out[VR_START_ROOM];
   uint8_t in[VR_CLASSIC_BYTES];
   vr_put_hello(out);
   /* ESXi 7.0.3 sends 36 only after it has got 51. */
   VixError err = say(s, out, VR_HELLO_BYTES, deadline_ms);
   while (err == VIX_OK && !(s->greeting.acknowledged && s->greeting.version)) {
      err = hear(s, in, deadline_ms);
      if (err == VIX_OK && !vr_get_greeting(in, &s->greeting)) {
         err = vr_session_broken(s, "the NFC handshake", "an unknown message");
      }
   }
   if (err == VIX_OK && s->greeting.accepted != 1) {
      err = vr_session_broken(s, "the NFC handshake", "the session parameters are refused");
   }
   if (err == VIX_OK) {
      err = say(s, out, vr_put_start(out), deadline_ms);
   }
   if (err == VIX_OK) {
      err = hear(s, in, deadline_ms);
   }
   if (err == VIX_OK && vr_classic_type(in) != VR_CLASSIC_AIO) {
      err = vr_session_broken(s, "the NFC handshake", "no AIO session");
   }
   s->aio = err == VIX_OK;
   return err;
}

static VixError agree(vr_nfc_session *s, uint32_t buffer_count, int64_t deadline_ms)
{
   uint8_t frame[VR_FRAME_ROOM];
   uint8_t payload[VR_REPLY_MAX];
   size_t size = 0;
   VixError refusal = VIX_OK;
   uint64_t status = 0;
   uint32_t op_id = s->next_op_id++;
   size_t bytes = vr_put_open_session(frame, op_id, s->buffer_bytes, buffer_count);
   VixError err = call(s, frame, bytes, NULL, deadline_ms, "opening a session", payload, &size,
      &refusal);
   if (err == VIX_OK && refusal == VIX_OK) {
      if (!vr_get_session(payload, size, &status)) {
         return vr_session_broken(s, "opening a session", "an answer of another size");
      }
      if (status) {
         refusal = vr_session_refused(s, op_id, status, "opening a session");
      }
   }
   if (err != VIX_OK || refusal != VIX_OK) {
      s->buffers_refused = err == VIX_OK;
      return err != VIX_OK ? err : refusal;
   }
   /* Both are wishes: a host that does not know them serves the disk all the same. */
   bytes = vr_put_socket_options(frame, s->next_op_id++);
   err = call(s, frame, bytes, NULL, deadline_ms, "asking for socket options", payload, &size,
      &refusal);
   if (err == VIX_OK) {
      bytes = vr_put_resource_pool(frame, s->next_op_id++);
      err = call(s, frame, bytes, NULL, deadline_ms, "setting the resource pool", payload, &size,
         &refusal);
   }
   return err;
}

VixError vr_session_start(vr_nfc_session *s, vr_stream *stream, const char *host,
   const vr_nfc_config *config, uint32_t buffer_bytes)
{
   *s = (vr_nfc_session){.stream = stream, .host = host, .buffer_bytes = buffer_bytes};
   int64_t deadline_ms = vr_now_ms() + config->handshake_ms;
   VixError err = handshake(s, deadline_ms);
   return err == VIX_OK ? agree(s, config->buffer_count, deadline_ms) : err;
}

static VixError check_opened(vr_nfc_session *s, const char *path, uint64_t capacity)
{
   if (!s->file.capacity_bytes) {
      s->file.capacity_bytes = capacity;
   }
   if (s->file.sector_bytes != 0 && s->file.sector_bytes != SECTOR) {
      vr_warn("%s: %s has sectors of %u bytes, not %u\n", s->host, path, s->file.sector_bytes,
         SECTOR);
      return VIX_E_NOT_SUPPORTED;
   }
   if (!s->file.capacity_bytes || s->file.capacity_bytes >> 62
      || s->file.capacity_bytes % SECTOR) {
      return vr_session_broken(s, "opening a disk", "neither host nor vCenter tell its capacity");
   }
   return VIX_OK;
}

VixError vr_session_open_file(vr_nfc_session *s, const char *path, bool read_only,
   uint64_t capacity, const vr_nfc_config *config)
{
   uint8_t frame[VR_FRAME_ROOM];
   uint8_t payload[VR_REPLY_MAX];
   size_t size = 0;
   VixError refusal = VIX_OK;
   const char *doing = read_only ? "opening a disk" : "opening a disk for writing";
   if (!*path || strlen(path) > PATH_MAX_BYTES) {
      return VIX_E_FILE_NAME_INVALID;
   }
   uint32_t op_id = s->next_op_id++;
   size_t bytes = vr_put_open_file(frame, op_id, (uint32_t)strlen(path), read_only);
   VixError err = call(s, frame, bytes, path, vr_now_ms() + config->handshake_ms, doing, payload,
      &size, &refusal);
   if (err != VIX_OK || refusal != VIX_OK) {
      return err != VIX_OK ? err : refusal;
   }
   if (!vr_get_opened(payload, size, &s->file)) {
      return vr_session_broken(s, doing, "an answer of another size");
   }
   return s->file.status ? vr_session_refused(s, op_id, s->file.status, doing)
                         : check_opened(s, path, capacity);
}

void vr_session_close(vr_nfc_session *s, bool whole, const vr_nfc_config *config)
{
   uint8_t frame[VR_FRAME_ROOM];
   uint8_t message[VR_CLASSIC_BYTES];
   uint8_t payload[VR_REPLY_MAX];
   size_t size;
   VixError refusal;
   int64_t deadline_ms = vr_now_ms() + config->close_ms;
   if (s->stream && s->aio && whole) {
      size_t bytes = vr_put_close_session(frame, s->next_op_id++);
      if (call(s, frame, bytes, NULL, deadline_ms, "closing the session", payload, &size, &refusal)
         == VIX_OK) {
         vr_put_classic(message, VR_CLASSIC_COMPLETE);
         vr_stream_write(s->stream, message, sizeof message, deadline_ms);
      }
   }
   if (s->stream) {
      vr_stream_close(s->stream);
   }
   s->stream = NULL;
}
