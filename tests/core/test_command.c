/* The promises of mcext/core/wire/command.h. */

#include "core/wire/command.h"

#include "check.h"

#define TEXT(literal) ((mc_slice){literal, sizeof(literal) - 1})

static void a_command_is_found_by_its_name_only(void)
{
    for (int command = 0; command < MC_COMMANDS; command++) {
        CHECK_NUMBER(mc_command_find(mc_commands[command].name), command);
    }
    CHECK_NUMBER(mc_command_find(TEXT("ge")), MC_COMMANDS);
    CHECK_NUMBER(mc_command_find(TEXT("getx")), MC_COMMANDS);
    CHECK_NUMBER(mc_command_find(TEXT("GET")), MC_COMMANDS);
    CHECK_NUMBER(mc_command_find(TEXT("get ")), MC_COMMANDS);
    CHECK_NUMBER(mc_command_find(TEXT("")), MC_COMMANDS);
}

static void only_what_may_be_executed_twice_is_repeatable(void)
{
    for (int command = 0; command < MC_COMMANDS; command++) {
        bool twice = command == MC_GET || command == MC_GETS || command == MC_SET ||
                     command == MC_TOUCH || command == MC_DELETE || command == MC_STATS ||
                     command == MC_VERSION;

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
        {MC_REPLY_VALUE, ""},
        {MC_REPLY_END, ""},
        {MC_REPLY_STAT, ""},
        {MC_REPLY_OTHER, ""},
        {MC_REPLY_SERVER_ERROR, ""},
    };

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        char found[128] = "";

        for (int command = 0; command < MC_COMMANDS; command++) {
            if (mc_command_is_answered_by((mc_command)command, answers[i].type)) {
                strcat(strcat(found, mc_commands[command].name.bytes), " ");
            }
        }
        CHECK(strcmp(found, answers[i].commands) == 0);
    }
}

int main(void)
{
    PROMISE(a_command_is_found_by_its_name_only);
    PROMISE(only_what_may_be_executed_twice_is_repeatable);
    PROMISE(each_answer_belongs_to_its_commands_alone);
    return check_result();
}
