/* Settings of connections to hosts, with VDDK's names where the configuration file has them. */
#ifndef VR_NFC_CONFIG_H
#define VR_NFC_CONFIG_H

#include <stdint.h>

#define VR_KIB 1024u
#define VR_MIB (1024u * 1024u)
/* The smallest buffer and request, also where a host is short of memory: VDDK's default buffer. */
#define VR_BUFFER_MIN (64u * VR_KIB)
/* The largest buffer that ESXi 8 accepted, and the most of one session (notes of VDDK 7.0.3). */
#define VR_BUFFER_MAX (2u * VR_MIB)
#define VR_SESSION_BUFFERS_MAX (16u * VR_MIB)
/* The most bytes of one request. Larger reads and writes are several requests. */
#define VR_REQUEST_MAX (1u * VR_MIB)

typedef struct {
   uint32_t buffer_bytes; /* nfcAio.Session.BufSizeIn64KB; others measured 1-2 MiB times 4 as best */
   uint32_t buffer_count; /* nfcAio.Session.BufCount */
   uint32_t in_flight_bytes; /* vreplica.nfc.inFlightMB: a host has 48 MiB for all its clients */
   unsigned connect_ms;
   unsigned handshake_ms;
   unsigned read_ms;  /* nfc.ReadTimeoutMs */
   unsigned write_ms; /* nfc.WriteTimeoutMs */
   unsigned close_ms;
   unsigned reconnects; /* vreplica.nfc.reconnects: how often one loss is tried to be mended */
   unsigned reconnect_wait_ms;
   unsigned legacy_tls; /* vreplica.nfc.legacyTls: OpenSSL's security level 1, for ESXi 6.5 and 6.7.0 */
} vr_nfc_config;

#define VR_NFC_CONFIG_DEFAULT \
   { \
      .buffer_bytes = 1u * VR_MIB, .buffer_count = 4, .in_flight_bytes = 8u * VR_MIB, \
      .connect_ms = 10000, .handshake_ms = 30000, .read_ms = 60000, .write_ms = 600000, \
      .close_ms = 10000, .reconnects = 5, .reconnect_wait_ms = 500, \
   }

#endif
