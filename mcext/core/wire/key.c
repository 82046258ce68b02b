#include "core/wire/key.h"

#include <stdint.h>
#include <string.h>

bool mc_key_is_safe(mc_slice key)
{
    for (size_t i = 0; i < key.length; i++) {
        char byte = key.bytes[i];

        if (byte == '\0' || byte == '\n' || byte == ' ') {
            return false;
        }
    }
    return key.length != 0;
}
