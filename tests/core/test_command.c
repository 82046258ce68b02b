/* The promises of mcext/core/wire/command.h. */

#include "core/wire/command.h"

#include "check.h"

#define TEXT(literal) ((mc_slice){literal, sizeof(literal) - 1})

static void only_what_may_be_executed_twice_is_repeatable(void)
{
    for (int command = 0; command < MC_COMMANDS; command++) {
        bool twice = command == MC_GET || command == MC_GETS || command == MC_SET ||
                     command == MC_TOUCH || command == MC_DELETE || command == MC_STATS ||
                     command == MC_VERSION || command == MC_MG || command == MC_META_PROBE;

        CHECK(mc_commands[command].repeatable == twice);
    }
}

static void each_answer_belongs_to_its_commands_alone(void)
{
    static const struct {
        mc_reply_type type;
        const char *commands; /* each with a space */
    } answers[] = {
        {MC_REPLY_STORED, "set add replace append prepend cas "},
        {MC_REPLY_NOT_STORED, "set add replace append prepend cas "},
        {MC_REPLY_EXISTS, "cas "},
        {MC_REPLY_NOT_FOUND, "cas delete touch incr decr "},
        {MC_REPLY_DELETED, "delete "},
        {MC_REPLY_TOUCHED, "touch "},
        {MC_REPLY_NUMBER, "incr decr "},
        {MC_REPLY_OK, "flush_all "},
        {MC_REPLY_VERSION, "version "},
        {MC_REPLY_VALUE, "mg "},
        {MC_REPLY_HD, "mg md mn\r\nmg AA== b k O1 "},
        {MC_REPLY_EN, "mg mn\r\nmg AA== b k O1 "},
        {MC_REPLY_NF, "md "},
        {MC_REPLY_EX, "md "},
        {MC_REPLY_MN, "mn\r\nmg AA== b k O1 "},
    };
    uint32_t others = UINT32_MAX; /* types that are nobody's answer */

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        char found[128] = "";

        others &= ~(UINT32_C(1) << answers[i].type);
        for (int command = 0; command < MC_COMMANDS; command++) {
            if (mc_command_is_answered_by((mc_command)command, answers[i].type)) {
                strcat(strcat(found, mc_commands[command].name.bytes), " ");
            }
        }
        CHECK(strcmp(found, answers[i].commands) == 0);
    }
    for (int command = 0; command < MC_COMMANDS; command++) {
        CHECK_NUMBER(mc_commands[command].answers & others, 0);
    }
}

static void only_storage_commands_begin_with_eight_bytes_at_most(void)
{
    for (int command = 0; command < MC_COMMANDS; command++) {
        const mc_command_info *info = &mc_commands[command];
        char wanted[32] = "";

        if (info->family == MC_FAMILY_STORAGE) {
            snprintf(wanted, sizeof wanted, "%s ", info->name.bytes);
        }
        CHECK_NUMBER(info->name.length, strlen(info->name.bytes));
        CHECK(strncmp(info->begin, wanted, sizeof info->begin) == 0 && strlen(wanted) <= 8);
    }
}

static void a_get_line_has_no_more_keys_and_bytes_than_every_service_takes(void)
{
    static char name[MC_GET_LINE + 1];
    static mc_slice keys[2 * MC_KEYS_PER_GET];
    const struct {
        size_t length, count, fit; /* of each key; keys; how many go on the line */
    } lines[] = {
        {1, 1, 1},       {1, 999, 999}, {1, 1000, 1000}, {1, 1001, 1000},      {14, 1000, 1000},
        {15, 1000, 999}, {249, 63, 63}, {249, 64, 63},   {250, 2000, 63},      {7996, 2, 2},
        {7997, 2, 1},    {16000, 2, 1}, {16000, 1, 1},   {MC_GET_LINE, 50, 1},
    };

    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        for (size_t at = 0; at < lines[i].count; at++) {
            keys[at] = (mc_slice){name, lines[i].length};
        }
        CHECK_NUMBER(mc_keys_of_line(keys, lines[i].count), lines[i].fit);
    }
}

int main(void)
{
    PROMISE(only_what_may_be_executed_twice_is_repeatable);
    PROMISE(each_answer_belongs_to_its_commands_alone);
    PROMISE(only_storage_commands_begin_with_eight_bytes_at_most);
    PROMISE(a_get_line_has_no_more_keys_and_bytes_than_every_service_takes);
    return check_result();
}
