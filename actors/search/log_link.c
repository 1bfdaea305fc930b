/* log_link.c - see log_link.h. */
#include "actors/search/log_link.h"

#include "protocol/limits.h"

enum { LOG_LINK_MAGIC = 0x106117c5 };

static log_link *link_of(void *context)
{
    log_link *self;
    TW_CAST(self, context, LOG_LINK_MAGIC);
    return self;
}

static void raise_head(log_link *self, uint64_t head)
{
    self->head = head > self->head ? head : self->head;
}

static void on_log_state(void *state, void *context, uint64_t tag, tw_err err,
                         const tw_envelope *in)
{
    (void)tag;
    log_link *self = link_of(context);
    self->asking = false;
    if (err != TW_OK || in->id != TW_MSG_log_state) {
        return;
    }
    const tw_msg_log_state *told = &in->body->log_state;
    if (self->srv != told->own) {
        self->srv = told->own;
        self->head = told->head; /* what was heard of another one says nothing */
    }
    raise_head(self, told->head);
    self->options->on_told(state);
}

static void on_log_rows(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    (void)tag;
    log_link *self = link_of(context);
    TW_ASSERT(self->reading);
    self->reading = false;
    if (err != TW_OK || in->id != TW_MSG_log_rows) {
        return;
    }
    raise_head(self, in->body->log_rows.head);
    self->options->on_rows(state, in);
}

void log_link_ask(log_link *self)
{
    TW_ASSERT(self->magic == LOG_LINK_MAGIC);
    if (self->asking) {
        return;
    }
    self->asking = true;
    tw_ask(self->actor, self->store, TW_MSG_log_state_ask, &(tw_msg_log_state_ask){.counts = false},
           TW_ASK_TIMEOUT_MS, on_log_state, self, 0);
}

void log_link_heard(log_link *self, const tw_msg_log_batch *batch)
{
    TW_ASSERT(self->magic == LOG_LINK_MAGIC);
    if (batch->srv != self->srv) {
        log_link_ask(self);
        return;
    }
    raise_head(self, batch->head);
}

void log_link_read(log_link *self, uint64_t after)
{
    TW_ASSERT(self->magic == LOG_LINK_MAGIC);
    if (self->reading) {
        return;
    }
    self->reading = true;
    tw_ask(self->actor, self->reader, TW_MSG_log_read,
           &(tw_msg_log_read){.after = after,
                              .rows_max = self->options->rows_max,
                              .bytes_max = self->options->bytes_max},
           TW_ASK_TIMEOUT_MS, on_log_rows, self, 0);
}

tw_err log_link_init(log_link *self, tw_actor *actor, const log_link_options *options)
{
    TW_ASSERT(options->on_told != NULL && options->on_rows != NULL);
    *self = (log_link){.magic = LOG_LINK_MAGIC, .actor = actor, .options = options};
    self->store = tw_link(actor, "store");
    self->reader = tw_link(actor, "log_reader.0");
    if (self->store < 0 || self->reader < 0) {
        return TW_E_INTERNAL;
    }
    if (options->every_ms > 0) {
        tw_follow_newest(actor, "store", options->every_ms);
    } else {
        tw_follow(actor, "store");
    }
    return TW_OK;
}
