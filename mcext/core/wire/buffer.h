/* buffer: a growing run of bytes: reserve room, commit what was written, consume from the front.
 *
 * Not synchronised: a buffer belongs to the connection that belongs to one call. */
#ifndef MC_BUFFER_H
#define MC_BUFFER_H

#include <stddef.h>
#include <string.h>

#include "core/wire/wipe.h"

typedef struct {
    char *data; /* owned; NULL while capacity is 0 */
    size_t start;
    size_t end; /* data[start..end) is what the buffer holds */
    size_t capacity;
} mc_buffer;

/* The allocator of the whole core, realloc's contract; a test replaces it to fail the Nth call. */
extern void *(*mc_reallocate)(void *memory, size_t size);

void mc_buffer_fini(mc_buffer *buffer);

/* mc_buffer_reserve where there is no room behind the end. */
char *mc_buffer_grow(mc_buffer *buffer, size_t size);

/* Room for size bytes behind the end, valid until the next reserve; NULL where memory is out (the
 * buffer is unchanged). Moves what it holds to the front before it grows. */
static inline char *mc_buffer_reserve(mc_buffer *buffer, size_t size)
{
    return size - 1 < buffer->capacity - buffer->end /* of no size: grow judges */
               ? buffer->data + buffer->end
               : mc_buffer_grow(buffer, size);
}

/* Appends a copy. 0 where memory is out. */
int mc_buffer_append(mc_buffer *buffer, const char *bytes, size_t size);

static inline size_t mc_buffer_length(const mc_buffer *buffer)
{
    return buffer->end - buffer->start;
}

static inline const char *mc_buffer_bytes(const mc_buffer *buffer)
{
    return buffer->data + buffer->start;
}

static inline void mc_buffer_commit(mc_buffer *buffer, size_t size)
{
    buffer->end += size;
}

static inline void mc_buffer_consume(mc_buffer *buffer, size_t size)
{
    buffer->start += size;
    if (buffer->start == buffer->end) {
        buffer->start = buffer->end = 0;
    }
}

static inline void mc_buffer_clear(mc_buffer *buffer)
{
    buffer->start = buffer->end = 0;
}

/* Nothing is left of what it held, as far as its memory goes. */
static inline void mc_buffer_wipe(mc_buffer *buffer)
{
    if (buffer->capacity != 0) {
        mc_wipe(buffer->data, buffer->capacity);
    }
    buffer->start = buffer->end = 0;
}

/* Gives the memory back where it is more than keep bytes and nothing is held. */
static inline void mc_buffer_trim(mc_buffer *buffer, size_t keep)
{
    if (buffer->capacity > keep && mc_buffer_length(buffer) == 0) {
        mc_buffer_fini(buffer);
    }
}

#endif
