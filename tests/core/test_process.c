/* The promises of mcext/core/net/process.h. */
#define _GNU_SOURCE
#include "core/net/process.h"

#include <sys/wait.h>

#include "check.h"

/* Whether it is so in a child. */
static bool holds_in_a_child(bool (*holds)(void))
{
    int status = -1;

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        _exit(holds() ? 0 : 1);
    }
    return waitpid(child, &status, 0) == child && status == 0;
}

static uint32_t before;

static bool is_another(void)
{
    return mc_process_generation() != before;
}

static bool is_another_again(void)
{
    before = mc_process_generation();
    return holds_in_a_child(is_another) && mc_process_generation() == before;
}

static void each_child_has_a_generation_of_its_own(void)
{
    CHECK(mc_process_init() == 1);
    CHECK(mc_process_init() == 1); /* once is enough */
    before = mc_process_generation();
    CHECK(before != 0 && before < MC_STARTING_OVER);
    CHECK(holds_in_a_child(is_another));
    CHECK(holds_in_a_child(is_another_again));
    CHECK_NUMBER(mc_process_generation(), before);
}

static void a_child_knows_whether_it_was_forked_in_a_call(void)
{
    CHECK(!mc_process_forked_in_call());
    CHECK(!holds_in_a_child(mc_process_forked_in_call));
    for (int calls = 1; calls <= 3; calls++) { /* one in another's middle */
        mc_process_add_calls(1);
        CHECK(holds_in_a_child(mc_process_forked_in_call));
    }
    mc_process_add_calls(-2);
    CHECK(holds_in_a_child(mc_process_forked_in_call));
    mc_process_add_calls(-1);
    CHECK(!holds_in_a_child(mc_process_forked_in_call));
    CHECK(!mc_process_forked_in_call()); /* the parent was not forked */
}

int main(void)
{
    PROMISE(each_child_has_a_generation_of_its_own);
    PROMISE(a_child_knows_whether_it_was_forked_in_a_call);
    return check_result();
}
