/*
 * A host for fuzz targets: what it says is the input, what it is told is read and dropped. The
 * functions of net/stream.h become these by the linker (--wrap, see native/tests/run.sh).
 */
#ifndef VR_FAKE_STREAM_H
#define VR_FAKE_STREAM_H

#include "net/stream.h"

/* From here on the host says these bytes, and then the connection ends. */
vr_stream *vr_fake_stream(const uint8_t *data, size_t bytes);
/* True when everything that the host says has been read. */
bool vr_fake_stream_ended(void);

#endif
