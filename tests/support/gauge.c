/* gauge.c - figures of an actor that runs, for tests. */
#include "tests/support/gauge.h"

enum { WAIT_MS = 60000 };

int64_t gauge_of(tw_caller *caller, const char *name)
{
    const tw_envelope *in = NULL;
    const tw_msg_actor_state_ask question = {.reset = false};
    tw_err err = tw_caller_ask(caller, TW_MSG_actor_state_ask, &question, WAIT_MS, &in);
    TW_ASSERT(err == TW_OK);
    const tw_list_gauge *gauges = &in->body->actor_state.gauges;
    size_t at = 0;
    while (at < gauges->count && !tw_str_equal(gauges->at[at].name, tw_str_of(name))) {
        at++;
    }
    TW_ASSERT(at < gauges->count);
    return gauges->at[at].value;
}
