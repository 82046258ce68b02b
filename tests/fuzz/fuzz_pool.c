/* The pool of a server's connections, driven by the input as a script: calls that run at one time
 * take and give back, some with another kind of socket or bound to a thread; the server is
 * disconnected, idle connections are reaped, the process forks. Streams are only counted, and
 * their close may use the pool in its turn, as a socket's close() in Python may. */
#include "core/fleet/pool.h"
#include "core/net/process.h"
#include "fuzz.h"

enum {
    CALLS = 6,
    STREAMS = 4096, /* no input opens more: each byte opens two at most */
    CLASSES = 3     /* of connections: native, through Python's sockets, those of a thread */
};

typedef struct {
    bool open;
    int class;
    uint32_t epoch, generation;
    uint64_t given; /* counts up as they are given back; 0: not yet */
    mc_connection *connection;
} stream;

static const uint8_t *script, *script_end;
static mc_pool pool;
static stream streams[STREAMS];
static size_t stream_count;
static uint64_t given_count;
static struct {
    mc_connection *connection; /* owned by this call, or NULL */
    int class;
} calls[CALLS];
static int taking[CLASSES]; /* calls that are being given a connection */
static int most[CLASSES];   /* calls at one time */
static uint32_t epoch;
static int64_t now;
static int depth; /* of calls made while a stream is closed */
static bool finishing;

static const char python_kind = 'p';
static const struct {
    const void *kind;
    uint64_t owner;
} classes[CLASSES] = {{NULL, 0}, {&python_kind, 1}, {&python_kind, 2}};

static void step(void);

static uint8_t next_byte(void)
{
    return script < script_end ? *script++ : 0;
}

static stream *stream_of(const mc_connection *connection)
{
    return connection->handle;
}

static bool is_owned(const mc_connection *connection)
{
    for (int i = 0; i < CALLS; i++) {
        if (calls[i].connection == connection) {
            return true;
        }
    }
    return false;
}

static void close_stream(mc_connection *connection)
{
    stream *closed = stream_of(connection);

    PROMISED(closed != NULL && closed->open && closed->connection == connection);
    closed->open = false;
    connection->handle = NULL;
    if (!finishing) { /* this may run Python code, so no lock may be held */
        PROMISED(mc_lock_try(&pool.lock));
        mc_lock_give(&pool.lock);
        if (depth < 2 && next_byte() % 4 == 0) {
            depth++;
            step();
            depth--;
        }
    }
}

static const mc_transport transport = {.close = close_stream};

static bool is_current(const stream *one)
{
    return one->epoch == epoch && one->generation == mc_process_generation();
}

/* What a call may rely on where it is given a connection that is open. */
static void check_open(const mc_connection *connection, int class)
{
    const stream *one = stream_of(connection);

    PROMISED(one != NULL && one->open && one->connection == connection);
    PROMISED(one->class == class && is_current(one));
}

/* When the one of that class was given back that a call has to be given, or 0. */
static uint64_t newest_of(int class)
{
    uint64_t given = 0;

    for (size_t i = 0; i < stream_count; i++) {
        const stream *one = &streams[i];

        if (one->open && one->class == class && is_current(one) && one->given > given &&
            !is_owned(one->connection)) {
            given = one->given;
        }
    }
    return given;
}

static void count_calls(int class)
{
    int running = taking[class];

    for (int i = 0; i < CALLS; i++) {
        running += calls[i].connection != NULL && calls[i].class == class;
    }
    if (running > most[class]) {
        most[class] = running;
    }
}

/* newest: as the straight way of native connections does, class 0. */
static void take(int call, int class, bool newest)
{
    if (calls[call].connection != NULL) {
        return;
    }
    uint32_t before = epoch;
    mc_connection *connection;
    taking[class]++;
    count_calls(class);
    connection = newest ? mc_pool_take_newest(&pool, NULL, 0)
                        : mc_pool_take(&pool, classes[class].kind, classes[class].owner);
    taking[class]--;
    if (connection == NULL) {
        PROMISED(newest);
        return;
    }
    PROMISED(!is_owned(connection));
    if (connection->open) {
        PROMISED(before == epoch);
        check_open(connection, class);
        PROMISED(stream_of(connection)->given == newest_of(class));
    }
    else {
        PROMISED(!newest && stream_of(connection) == NULL && newest_of(class) == 0);
        PROMISED(mc_buffer_length(&connection->in) == 0);
        PROMISED(mc_buffer_length(&connection->out) == 0);
    }
    if (calls[call].connection != NULL) { /* a close in between took one for this call */
        mc_pool_give(connection, false, now);
        return;
    }
    calls[call].connection = connection;
    calls[call].class = class;
}

/* The call connects: a disconnect may have come since it took the connection. */
static void open_stream(int call)
{
    mc_connection *connection = calls[call].connection;

    if (connection == NULL || connection->open || stream_count == STREAMS) {
        return;
    }
    stream *opened = &streams[stream_count++];
    *opened = (stream){.open = true,
                       .class = calls[call].class,
                       .epoch = connection->epoch,
                       .generation = mc_process_generation(),
                       .connection = connection};
    connection->handle = opened;
    connection->transport = &transport;
    mc_pool_opened(connection);
}

static void give(int call, bool clean)
{
    mc_connection *connection = calls[call].connection;

    if (connection == NULL) {
        return;
    }
    stream *one = stream_of(connection);
    bool stays = clean && connection->open && is_current(one);
    calls[call].connection = NULL;
    if (stays) {
        one->given = ++given_count;
    }
    if (!stays && one != NULL) {
        mc_pool_give(connection, clean, now);
        PROMISED(!one->open);
    }
    else {
        mc_pool_give(connection, clean, now);
        PROMISED(one == NULL || one->open == stays);
    }
}

static void disconnect(bool all)
{
    mc_connection *connection;

    mc_pool_disconnect(&pool);
    epoch++;
    uint32_t mine = epoch;
    while (all && (connection = mc_pool_take_old(&pool, 0)) != NULL) {
        PROMISED(!is_owned(connection) && !is_current(stream_of(connection)));
        PROMISED(connection->owner == 0);
        mc_pool_give(connection, false, now);
    }
    for (size_t i = 0; all && depth == 0 && mine == epoch && i < stream_count; i++) {
        if (streams[i].open && streams[i].epoch != epoch) {
            /* Or another thread's, which closes it itself. */
            PROMISED(is_owned(streams[i].connection) || classes[streams[i].class].owner != 0);
        }
    }
}

static void reap(int64_t before, size_t steps)
{
    mc_connection *connection;

    while (steps-- > 0 && (connection = mc_pool_take_idle(&pool, 0, before)) != NULL) {
        PROMISED(!is_owned(connection) && connection->open);
        PROMISED(connection->owner == 0);
        PROMISED(connection->last_used < before || !is_current(stream_of(connection)));
        mc_pool_give(connection, false, now);
    }
}

static void step(void)
{
    uint8_t byte = next_byte();
    int call = byte / 16 % CALLS, class = byte / 96 % CLASSES;

    switch (byte % 16) {
    case 0:
    case 1:
    case 2:
    case 3:
        take(call, class, false);
        open_stream(call);
        break;
    case 4:
        take(call, class, false);
        break;
    case 5:
    case 6:
        take(call, 0, true);
        break;
    case 7:
    case 8:
    case 9:
        give(call, true);
        break;
    case 10:
        give(call, false);
        break;
    case 11:
        disconnect(true);
        break;
    case 12:
        disconnect(false);
        break;
    case 13:
        reap(now - byte / 16 * 10, 1 + byte % 7);
        break;
    case 14:
        now += byte / 16 * 10;
        break;
    default:
        if (depth == 0) { /* what follows happens in the child of a fork */
            atomic_fetch_add(&mc_process_counter, 1);
            epoch = atomic_load(&pool.epoch);
        }
    }
}

/* The pool counts the streams right, and there are no more than there were calls at one time, of
 * each class, but for those from before a disconnect that is still at it. */
static void check_all(void)
{
    size_t open = 0, of_class[CLASSES] = {0};
    size_t counted = mc_pool_idle_count(&pool); /* in a child it closes some: before the loops */

    for (size_t i = 0; i < stream_count; i++) {
        open += streams[i].open;
        of_class[streams[i].class] += streams[i].open && is_current(&streams[i]);
    }
    for (int i = 0; i < CALLS; i++) {
        counted += calls[i].connection != NULL && calls[i].connection->open;
    }
    PROMISED(open == counted);
    for (int i = 0; i < CLASSES; i++) {
        PROMISED(of_class[i] <= (size_t)most[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > STREAMS / 2) {
        return 0;
    }
    script = data;
    script_end = data + size;
    stream_count = 0;
    given_count = 0;
    now = 1000;
    epoch = 0;
    finishing = false;
    memset(calls, 0, sizeof calls);
    memset(most, 0, sizeof most);
    mc_pool_init(&pool);
    while (script < script_end) {
        step();
        check_all();
    }
    finishing = true; /* a close makes no more calls */
    for (int i = 0; i < CALLS; i++) {
        give(i, true);
    }
    mc_pool_fini(&pool);
    for (size_t i = 0; i < stream_count; i++) {
        PROMISED(!streams[i].open);
    }
    return 0;
}
