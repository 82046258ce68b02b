#include "core/wire/buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/wire/apart.h"

void *(*mc_reallocate)(void *memory, size_t size) = realloc;

MC_APART void mc_buffer_fini(mc_buffer *buffer)
{
    free(buffer->data);
    *buffer = (mc_buffer){0};
}

MC_COLD char *mc_buffer_grow(mc_buffer *buffer, size_t size)
{
    size_t held = mc_buffer_length(buffer);

    if (size > SIZE_MAX / 2 - held) {
        return NULL;
    }
    if (held + size > buffer->capacity || buffer->data == NULL) {
        size_t capacity = buffer->capacity < 512 ? 512 : buffer->capacity;

        while (capacity < held + size) {
            capacity *= 2;
        }
        char *data = mc_reallocate(buffer->data, capacity);
        if (data == NULL) {
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    if (buffer->start != 0) {
        memmove(buffer->data, buffer->data + buffer->start, held);
        buffer->start = 0;
        buffer->end = held;
    }
    return buffer->data + buffer->end;
}

MC_APART int mc_buffer_append(mc_buffer *buffer, const char *bytes, size_t size)
{
    char *room = mc_buffer_reserve(buffer, size);

    if (room == NULL) {
        return 0;
    }
    if (size != 0) {
        memcpy(room, bytes, size);
    }
    mc_buffer_commit(buffer, size);
    return 1;
}
