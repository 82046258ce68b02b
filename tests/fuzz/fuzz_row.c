/* fuzz_row: any bytes as the replies to any row of requests. Whoever leaves, and whenever, what the
 * others are told is the same, down to the end of the stream; and so it is in one piece and in any
 * split. Of one who left nothing is told but the end.
 *
 * Input: number of askings, who leaves at once, who leaves at his first event, split; command and
 * number of replies of each asking; then the stream. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "core/flow/row.h"

#define AT_MOST 8
#define HEADER 4
#define ROOM ((size_t)1 << 16)

typedef struct {
    const uint8_t *asked; /* two bytes each */
    size_t count;
    const char *stream;
    size_t size;
} request;

/* What each is told, as a hash, and what became of him: 0: nothing yet, 'd'one, of those that are
 * left 'r' who may ask again and 'l' who may not. */
typedef struct {
    uint64_t hash[AT_MOST];
    char end[AT_MOST];
    bool is_broken;
} story;

typedef struct {
    mc_row row;
    mc_asking asking[AT_MOST];
    unsigned leaves;
    story told;
    char room[ROOM];
} player;

static const mc_slice keys[] = {{"k0", 2}, {"k1", 2}, {"k2", 2}, {"k2", 2}};

static void mix(uint64_t *hash, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < length; i++) {
        *hash = (*hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
}

static void begin(player *self, const request *asked, unsigned dropped, unsigned leaves)
{
    memset(&self->told, 0, sizeof self->told);
    self->row = (mc_row){.count = 0};
    self->leaves = leaves;
    for (size_t i = 0; i < asked->count; i++) {
        mc_command command = asked->asked[2 * i] % MC_COMMANDS;
        size_t replies = 1 + asked->asked[2 * i + 1] % 4;
        mc_asking *asking = &self->asking[i];

        if (mc_commands[command].family == MC_FAMILY_PROBE) {
            replies = 2;
        }
        memset(asking, 0xee, sizeof *asking);
        asking->is_dropped = dropped >> i & 1;
        mc_exchange_init(&asking->exchange, &self->row.in, command, keys, replies, false);
        asking->exchange.max_length = ROOM;
        mc_row_add(&self->row, asking);
    }
}

static void event_of(player *self, mc_asking *whose, mc_event event)
{
    size_t number = (size_t)(whose - self->asking);
    mc_exchange *exchange = &whose->exchange;
    uint64_t *hash = &self->told.hash[number];
    bool gives_room = event == MC_EVENT_VALUE && exchange->body == NULL;

    PROMISED(whose == self->row.first && !whose->is_dropped);
    if (gives_room) {
        mc_exchange_give_room(exchange, self->room);
    }
    if (self->leaves >> number & 1) {
        mc_row_drop(whose);
    }
    else if (event == MC_EVENT_REPLY) {
        mix(hash, "r", 1);
        mix(hash, exchange->reply.line.bytes, exchange->reply.line.length);
    }
    else if (!gives_room) {
        size_t length = (size_t)exchange->reply.length;

        PROMISED(event == MC_EVENT_VALUE || exchange->room == self->room + length);
        mix(hash, "v", 1);
        mix(hash, &exchange->index, sizeof exchange->index);
        mix(hash, event == MC_EVENT_VALUE ? exchange->body : self->room, length);
    }
}

static void pull(player *self)
{
    mc_asking *whose;
    mc_event event;

    while ((event = mc_row_next(&self->row, &whose)) != MC_EVENT_AGAIN) {
        if (event == MC_EVENT_BROKEN) {
            PROMISED(self->row.is_broken && (whose == NULL || whose == self->row.first));
            return;
        }
        if (event == MC_EVENT_DONE) {
            size_t number = (size_t)(whose - self->asking);

            PROMISED(self->told.end[number] == 0 && whose != self->row.first);
            self->told.end[number] = 'd';
        }
        else {
            event_of(self, whose, event);
        }
    }
}

static void play(player *self, const request *asked, unsigned dropped, unsigned leaves,
                 unsigned split)
{
    size_t at = 0;

    begin(self, asked, dropped, leaves);
    pull(self);
    while (at < asked->size && !self->row.is_broken) {
        size_t left = asked->size - at;
        struct iovec piece = {NULL, 0};

        PROMISED(mc_row_room(&self->row, &piece));
        split = split * 1103515245 + 12345;

        size_t part = split % 2 == 0 ? left : 1 + (split >> 16) % 23;

        part = part < left ? part : left;
        part = part < piece.iov_len ? part : piece.iov_len;
        memcpy(piece.iov_base, asked->stream + at, part);
        mc_row_received(&self->row, part);
        at += part;
        pull(self);
    }
    self->told.is_broken = self->row.is_broken;
    for (mc_asking *left; (left = mc_row_take(&self->row)) != NULL;) {
        size_t number = (size_t)(left - self->asking);

        PROMISED(self->told.end[number] == 0);
        self->told.end[number] =
            !self->told.is_broken && mc_asking_may_be_repeated(left) ? 'r' : 'l';
    }
    PROMISED(self->row.count == 0 && self->row.in.capacity <= 8 * FUZZ_GUARDED_MAX);
    for (size_t i = 0; i < asked->count; i++) {
        mc_exchange_fini(&self->asking[i].exchange);
    }
    mc_row_fini(&self->row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static player self;
    request asked;
    unsigned gone;

    if (size < HEADER || size > FUZZ_GUARDED_MAX) {
        return 0;
    }
    asked.count = 1 + data[0] % AT_MOST;
    if (size < HEADER + 2 * asked.count) {
        return 0;
    }
    asked.asked = data + HEADER;
    asked.stream = (const char *)data + HEADER + 2 * asked.count;
    asked.size = size - HEADER - 2 * asked.count;
    gone = data[1] | data[2];

    play(&self, &asked, 0, 0, 2);
    story all = self.told;

    for (unsigned split = data[3]; split < data[3] + 3U; split++) {
        play(&self, &asked, data[1], data[2], split);
        PROMISED(self.told.is_broken == all.is_broken);
        for (size_t i = 0; i < asked.count; i++) {
            PROMISED(self.told.end[i] == all.end[i]);
            PROMISED(self.told.hash[i] == (gone >> i & 1 ? 0 : all.hash[i]));
        }
    }
    return 0;
}
