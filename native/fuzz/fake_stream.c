#include "fake_stream.h"

#include <string.h>

static struct {
   const uint8_t *data;
   size_t left;
   uint8_t sum; /* of what was sent: reading it is what the sanitizers check */
} fake;

VixError __wrap_vr_stream_connect(const char *host, unsigned port, unsigned ms, vr_stream **out);
VixError __wrap_vr_stream_start_tls(vr_stream *s, const char *sni, vr_peer *peer, bool legacy);
void __wrap_vr_stream_drop_tls(vr_stream *s);
VixError __wrap_vr_stream_read(vr_stream *s, void *buf, size_t bytes, int64_t deadline_ms);
VixError __wrap_vr_stream_write(vr_stream *s, const void *buf, size_t bytes, int64_t deadline_ms);
VixError __wrap_vr_stream_writev(vr_stream *s, const struct iovec *parts, int count,
   int64_t deadline_ms);
const char *__wrap_vr_stream_error(const vr_stream *s);
void __wrap_vr_stream_close(vr_stream *s);

vr_stream *vr_fake_stream(const uint8_t *data, size_t bytes)
{
   fake.data = data;
   fake.left = bytes;
   return (vr_stream *)&fake;
}

bool vr_fake_stream_ended(void)
{
   return !fake.left;
}

VixError __wrap_vr_stream_connect(const char *host, unsigned port, unsigned ms, vr_stream **out)
{
   (void)host;
   (void)port;
   (void)ms;
   *out = (vr_stream *)&fake;
   return VIX_OK;
}

VixError __wrap_vr_stream_start_tls(vr_stream *s, const char *sni, vr_peer *peer, bool legacy)
{
   (void)s;
   (void)sni;
   (void)legacy;
   *peer = (vr_peer){{0}, {0}};
   return VIX_OK;
}

void __wrap_vr_stream_drop_tls(vr_stream *s)
{
   (void)s;
}

VixError __wrap_vr_stream_read(vr_stream *s, void *buf, size_t bytes, int64_t deadline_ms)
{
   (void)s;
   (void)deadline_ms;
   if (bytes > fake.left) {
      fake.left = 0;
      return VIX_E_HOST_TCP_CONN_LOST;
   }
   memcpy(buf, fake.data, bytes);
   fake.data += bytes;
   fake.left -= bytes;
   return VIX_OK;
}

VixError __wrap_vr_stream_write(vr_stream *s, const void *buf, size_t bytes, int64_t deadline_ms)
{
   (void)s;
   (void)deadline_ms;
   for (size_t i = 0; i < bytes; i++) {
      fake.sum = (uint8_t)(fake.sum + ((const uint8_t *)buf)[i]);
   }
   return VIX_OK;
}

VixError __wrap_vr_stream_writev(vr_stream *s, const struct iovec *parts, int count,
   int64_t deadline_ms)
{
   for (int i = 0; i < count; i++) {
      __wrap_vr_stream_write(s, parts[i].iov_base, parts[i].iov_len, deadline_ms);
   }
   return VIX_OK;
}

const char *__wrap_vr_stream_error(const vr_stream *s)
{
   (void)s;
   return "the fuzzer has said all";
}

void __wrap_vr_stream_close(vr_stream *s)
{
   (void)s;
}
