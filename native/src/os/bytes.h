/* Little-endian fields of on-disk structures, and arithmetic with offsets and sizes. */
#ifndef VR_BYTES_H
#define VR_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t vr_le16(const uint8_t *p)
{
   return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t vr_le32(const uint8_t *p)
{
   return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t vr_le64(const uint8_t *p)
{
   return (uint64_t)vr_le32(p) | (uint64_t)vr_le32(p + 4) << 32;
}

static inline void vr_put16(uint8_t *p, uint16_t v)
{
   p[0] = (uint8_t)v;
   p[1] = (uint8_t)(v >> 8);
}

static inline void vr_put32(uint8_t *p, uint32_t v)
{
   vr_put16(p, (uint16_t)v);
   vr_put16(p + 2, (uint16_t)(v >> 16));
}

static inline void vr_put64(uint8_t *p, uint64_t v)
{
   vr_put32(p, (uint32_t)v);
   vr_put32(p + 4, (uint32_t)(v >> 32));
}

static inline uint64_t vr_ceil_div(uint64_t a, uint64_t b)
{
   return a / b + (a % b != 0);
}

static inline uint64_t vr_min(uint64_t a, uint64_t b)
{
   return a < b ? a : b;
}

/* Rounds up to a multiple of `unit`; values here stay far below 2^63. */
static inline uint64_t vr_round_up(uint64_t value, uint64_t unit)
{
   return vr_ceil_div(value, unit) * unit;
}

/* True if `bytes` from sector `sector_offset` on lie within a file of `size` bytes. */
static inline bool vr_fits(uint64_t sector_offset, uint64_t bytes, uint64_t size)
{
   uint64_t start;
   uint64_t end;
   return !__builtin_mul_overflow(sector_offset, (uint64_t)512, &start)
      && !__builtin_add_overflow(start, bytes, &end) && end <= size;
}

/* memcmp of a buffer with itself, shifted by 16 bytes, runs at memory speed and stops at the first
 * byte that is not zero. */
static inline bool vr_is_zero(const uint8_t *p, size_t bytes)
{
   static const uint8_t zero[16];
   return bytes <= sizeof zero ? !memcmp(p, zero, bytes)
      : !memcmp(p, zero, sizeof zero) && !memcmp(p, p + sizeof zero, bytes - sizeof zero);
}

#endif
