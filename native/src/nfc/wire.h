/*
 * The messages of the NFC protocol, as functions over bytes. Every number of the wire is here.
 *
 *    classic message   | type u32 | fields ..., zero padded | to 264 bytes
 *    AIO frame         | magic u32 | type u32 | size u32 | opId u32 | payload (size) | extra |
 *
 * All integers are little-endian. The extra (path, key, data) follows the payload, and `size` does
 * not count it; a field of the payload has its length.
 *
 * Sources: the protocol notes of the public projects cloudbase/OpenVixDiskLib and
 * hystax/OpenVixDiskLib (VDDK 8.0 against vCenter and ESXi 8.0); for ESXi 6.5 to 7.0.3 a public
 * client in Rust.
 */
#ifndef VR_NFC_WIRE_H
#define VR_NFC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- classic messages -- */

#define VR_CLASSIC_BYTES 264u
#define VR_HELLO_BYTES (3 * VR_CLASSIC_BYTES)
#define VR_START_ROOM (3 * VR_CLASSIC_BYTES + 64)

enum {
   VR_CLASSIC_COMPLETE = 4,
   VR_CLASSIC_PARAMS = 33,
   VR_CLASSIC_PARAMS_REPLY = 36,
   VR_CLASSIC_HANDSHAKE = 43,
   VR_CLASSIC_VERSION = 51,
   VR_CLASSIC_AIO = 52,
   VR_CLASSIC_CONNECTION = 54,
   VR_CLASSIC_FEATURES = 55
};

/* What a host has said before AIO starts. */
typedef struct {
   bool acknowledged; /* 36 has come */
   uint32_t accepted; /* 1 for yes */
   uint32_t version;  /* of NFC; 0 before 51 has come */
} vr_nfc_greeting;

/* The messages that need no answer before them: handshake, parameters, version. */
void vr_put_hello(uint8_t out[VR_HELLO_BYTES]);
/* Names of the client and of the operation, features (none), start of AIO; returns the bytes. */
size_t vr_put_start(uint8_t out[VR_START_ROOM]);
void vr_put_classic(uint8_t out[VR_CLASSIC_BYTES], uint32_t type);
uint32_t vr_classic_type(const uint8_t message[VR_CLASSIC_BYTES]);
/* Takes 36 or 51, in any order; false for another message, or one of them twice. */
bool vr_get_greeting(const uint8_t message[VR_CLASSIC_BYTES], vr_nfc_greeting *greeting);

/* -- AIO frames -- */

#define VR_HEADER_BYTES 16u
#define VR_IO_BYTES 44u
#define VR_BLOCKS_BYTES 48u
#define VR_OPEN_BYTES 60u
/* Room for the header and any payload that the client sends. */
#define VR_FRAME_ROOM (VR_HEADER_BYTES + VR_OPEN_BYTES)
/* Payloads of replies have at most 60 bytes; only an error's size is not known. */
#define VR_REPLY_MAX 4096u
#define VR_ERROR_MAX 65536u
#define VR_DDB_VALUE_MAX 65536u

enum {
   VR_AIO_ERROR = 1,
   VR_AIO_OPEN_SESSION = 2,
   VR_AIO_CLOSE_SESSION = 3,
   VR_AIO_OPEN_FILE = 4,
   VR_AIO_CLOSE_FILE = 5,
   VR_AIO_IO = 7,
   VR_AIO_SOCKET_OPTIONS = 9,
   VR_AIO_DDB_GET = 11,
   VR_AIO_ALLOCATED = 13,
   VR_AIO_RESOURCE_POOL = 22
};

enum { VR_NFC_PLAIN = 0, VR_NFC_ZLIB = 1, VR_NFC_FASTLZ = 2, VR_NFC_SKIPZ = 3 };

typedef struct {
   uint32_t type;
   uint32_t size;
   uint32_t op_id;
} vr_nfc_header;

/* False for a wrong magic. */
bool vr_get_header(const uint8_t in[VR_HEADER_BYTES], vr_nfc_header *header);

/* Each of these puts header and payload, and returns their bytes. */
size_t vr_put_open_session(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint32_t buffer_bytes,
   uint32_t buffer_count);
size_t vr_put_socket_options(uint8_t out[VR_FRAME_ROOM], uint32_t op_id);
size_t vr_put_resource_pool(uint8_t out[VR_FRAME_ROOM], uint32_t op_id);
/* `path_bytes` bytes of the path follow. */
size_t vr_put_open_file(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint32_t path_bytes,
   bool read_only);
size_t vr_put_close_file(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint64_t handle);
size_t vr_put_close_session(uint8_t out[VR_FRAME_ROOM], uint32_t op_id);
/* `key_bytes` bytes of the key follow. */
size_t vr_put_ddb_get(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint64_t handle,
   uint32_t key_bytes);
size_t vr_put_allocated(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint64_t handle,
   uint64_t chunk_bytes, uint64_t start, uint64_t chunks);
size_t vr_put_read(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, uint64_t handle,
   uint32_t compression, uint64_t offset, uint32_t length);

/* A piece of a write, or of the answer to a read: `length` bytes from byte `at` of a request of
 * `total` bytes at byte `offset` of the disk. `wire_length` bytes follow. */
typedef struct {
   uint64_t handle; /* in replies the status: 0, or why the request failed */
   bool read;
   uint32_t compression;
   uint64_t offset;
   uint32_t total;
   uint32_t at;
   uint32_t length;
   uint32_t wire_length;
} vr_nfc_fragment;

size_t vr_put_fragment(uint8_t out[VR_FRAME_ROOM], uint32_t op_id, const vr_nfc_fragment *f);
/* False for another size or an opcode that is neither read nor write. */
bool vr_get_fragment(const uint8_t *payload, size_t size, vr_nfc_fragment *f);
/* False where data that answers a read of `total` bytes at `offset` cannot look like this:
 * at most `buffer` bytes, within the request, whole sectors. */
bool vr_fragment_fits(const vr_nfc_fragment *f, uint64_t offset, uint32_t total, uint32_t buffer);

typedef struct {
   uint64_t status; /* 0, or why the disk was not opened */
   uint64_t handle;
   uint64_t capacity_bytes; /* 0 where the host does not say */
   uint32_t sector_bytes;
   uint32_t cylinders;
   uint32_t heads;
   uint32_t sectors;
} vr_nfc_opened;

bool vr_get_opened(const uint8_t *payload, size_t size, vr_nfc_opened *opened);
/* The first u64 of the reply to OPEN_SESSION: 0, or why it was refused. */
bool vr_get_session(const uint8_t *payload, size_t size, uint64_t *status);
/* The bytes of the value that follows; 0 for a key that is missing. */
bool vr_get_ddb(const uint8_t *payload, size_t size, uint32_t *value_bytes);
bool vr_get_allocated(const uint8_t *payload, size_t size, uint64_t *chunks);
/* The bytes of a bitmap on the wire: a bit a chunk, least significant first, in units of 4 bytes. */
size_t vr_bitmap_bytes(uint64_t chunks);

#define VR_HOST_TEXT 512

/* Why a host refuses a request. */
typedef struct {
   uint64_t code;
   uint32_t text_follows; /* bytes of text after the payload, not counted in its size */
   char text[VR_HOST_TEXT]; /* printable; empty where there is none or it follows */
} vr_nfc_error;

/*
 * Two forms of the payload of an error are known, told apart by their sizes:
 *    u64 code | u32 0 | u32 text length            and the text follows, not counted (ESXi 7.0.3);
 *    the code somewhere in front, the text in it   (the form of ESXi 8 is not published).
 * In the first case an ordinary reply of the same opId may come as well. False for no payload.
 */
bool vr_get_error(const uint8_t *payload, size_t size, vr_nfc_error *error);
/* Copies what is printable of a host's words. */
void vr_host_text(const uint8_t *in, size_t bytes, char out[VR_HOST_TEXT]);

#endif
