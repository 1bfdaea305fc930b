/* processor.c - the actor that has minimal documents rewritten by services before they are told.
 *
 * Receives  page_read, manifest_docs (of queries with a collection that names a processor)
 * Sends     raw_page_read, manifest_docs (log_readers); calls to services, see processor_call.c
 * Owns      a connection to each service, the jobs that wait for one
 * Limit     TW_PROCESSOR_JOBS_MAX jobs, then busy; one call at a time to a service
 * Never     blocks, lets one service wait for another, tells a document that was not processed */
#include "actors/processor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "protocol/codec.h"
#include "protocol/json.h"

#include "actors/processor_priv.h"

enum { LOOK_MS = 50 };

static struct processor *self_of(void *state)
{
    struct processor *self;
    TW_CAST(self, state, PROCESSOR_MAGIC);
    return self;
}

/* ---- jobs ---- */

static void job_free(struct processor *self, processor_job *job)
{
    TW_ASSERT(self->jobs_count > 0);
    self->jobs_count--;
    LIST_REMOVE(job, all);
    tw_arena_fini(&job->arena);
    job->magic = 0;
    tw_free(job);
}

void processor_fail(struct processor *self, processor_job *job, tw_err err, const char *why)
{
    tw_reply_error(self->actor, &job->route, err, "%s", why);
    job_free(self, job);
}

static tw_err job_new(struct processor *self, const tw_envelope *in, tw_bson canonical,
                      processor_job **out)
{
    if (self->jobs_count >= TW_PROCESSOR_JOBS_MAX) {
        return TW_E_BUSY;
    }
    processor_job *job = tw_alloc_zero(1, sizeof *job);
    if (job == NULL) {
        return TW_E_NO_MEMORY;
    }
    job->magic = PROCESSOR_JOB_MAGIC;
    job->owner = self;
    job->route = *in->route;
    tw_arena_init(&job->arena, PROCESSOR_JOB_BYTES);
    LIST_INSERT_HEAD(&self->jobs, job, all);
    self->jobs_count++;
    job->query = tw_arena_bson(&job->arena, canonical);
    if (job->query.ptr == NULL) {
        job_free(self, job);
        return TW_E_NO_MEMORY;
    }
    *out = job;
    return TW_OK;
}

/* ---- answers ---- */

/* Appends what is told of a row: rendered without the projection, which was applied before. */
static void render(struct processor *self, const topic_query_part *part, unsigned meaning,
                   const topic_change *change)
{
    topic_query_part whole = *part;
    whole.fields.count = 0;
    topic_query_render(self->catalog, &whole, meaning, change, &self->text);
}

/* The next outcome of a raw row; items stand in the order of the rows. */
static const processor_item *outcome(const processor_job *job, size_t *at)
{
    TW_ASSERT(*at < job->count);
    return &job->items[(*at)++];
}

static void answer_page(struct processor *self, processor_job *job, const topic_query *asked)
{
    const tw_msg_raw_page *raw = &job->source.raw_page;
    tw_item_page_row *rows = tw_arena_alloc(&job->arena, (raw->rows.count + 1) * sizeof *rows);
    size_t *at = tw_arena_alloc(&job->arena, (raw->rows.count + 1) * sizeof *at);
    if (rows == NULL || at == NULL) {
        processor_fail(self, job, TW_E_NO_MEMORY, "");
        return;
    }
    size_t count = 0;
    size_t next = 0;
    for (size_t i = 0; i < raw->rows.count; i++) {
        const tw_item_page_row *row = &raw->rows.at[i];
        const tw_item_raw_row *how = &raw->raws.at[i];
        const topic_query_part *part = &asked->parts[how->part];
        tw_bson doc = how->raw ? outcome(job, &next)->doc : (tw_bson){0};
        if (how->raw && doc.len == 0 && !how->had) {
            continue; /* dropped, and nobody was told of it before */
        }
        rows[count] = *row;
        at[count] = self->text.len;
        if (!how->raw) {
            tw_buf_add_str(&self->text, row->tail);
        } else {
            unsigned meaning = doc.len == 0 ? TW_MEANS_LEFT : TW_MEANS_PUT;
            const topic_change change = {.at = {row->srv, row->seqno},
                                         .flags = how->flags,
                                         .key = how->key,
                                         .version = how->version,
                                         .doc = doc};
            rows[count].type = topic_query_type(part, meaning);
            render(self, part, meaning, &change);
        }
        rows[count].tail.len = self->text.len - at[count];
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        rows[i].tail.ptr = self->text.ptr + at[i];
    }
    if (self->text.err != TW_OK) {
        processor_fail(self, job, self->text.err, "what the processor made is too large");
        return;
    }
    const tw_msg_page page = {.reset = raw->reset,
                              .floor = raw->floor,
                              .srv = raw->srv,
                              .after = raw->after,
                              .w0 = raw->w0,
                              .head = raw->head,
                              .caught_up = raw->caught_up,
                              .at = raw->at,
                              .rows = {rows, count}};
    tw_reply(self->actor, &job->route, TW_MSG_page, &page);
    job_free(self, job);
}

/* Documents of a manifest. Dropped ones keep their place: an empty document, or a row without a
 * type whose tail is the key as JSON. */
static void answer_docs(struct processor *self, processor_job *job, const topic_query *asked)
{
    const tw_msg_records *source = &job->source.records;
    const topic_query_part *part = &asked->parts[job->count == 0 ? 0 : job->items[0].part];
    tw_item_record *records =
        tw_arena_alloc(&job->arena, (source->items.count + 1) * sizeof *records);
    tw_item_page_row *rows = tw_arena_zero(&job->arena, source->items.count + 1, sizeof *rows);
    size_t *at = tw_arena_alloc(&job->arena, (source->items.count + 1) * sizeof *at);
    if (records == NULL || rows == NULL || at == NULL) {
        processor_fail(self, job, TW_E_NO_MEMORY, "");
        return;
    }
    for (size_t i = 0; i < source->items.count; i++) {
        const tw_item_record *from = &source->items.at[i];
        records[i] = *from;
        records[i].doc = job->items[i].doc;
        at[i] = self->text.len;
        rows[i].srv = from->srv;
        rows[i].seqno = from->seqno;
        if (job->rendered && records[i].doc.len > 0) {
            const topic_change change = {.at = {from->srv, from->seqno},
                                         .flags = TW_ROW_PUT | TW_ROW_LAST,
                                         .key = from->key,
                                         .version = from->version,
                                         .doc = records[i].doc};
            rows[i].type = topic_query_type(part, TW_MEANS_PUT);
            render(self, part, TW_MEANS_PUT, &change);
        } else if (job->rendered) {
            tw_json_write_key(&self->text, from->key);
        }
        rows[i].tail.len = self->text.len - at[i];
    }
    for (size_t i = 0; i < source->items.count; i++) {
        rows[i].tail.ptr = self->text.ptr + at[i];
    }
    if (self->text.err != TW_OK) {
        processor_fail(self, job, self->text.err, "what the processor made is too large");
        return;
    }
    const tw_msg_page page = {.rows = {rows, source->items.count}};
    const tw_msg_records answer = {.more = source->more, .items = {records, source->items.count}};
    tw_reply(self->actor, &job->route, job->rendered ? TW_MSG_page : TW_MSG_records,
             job->rendered ? (const void *)&page : (const void *)&answer);
    job_free(self, job);
}

void processor_answer(struct processor *self, processor_job *job)
{
    topic_query *asked = NULL;
    broker_why why = {0};
    tw_buf_clear(&self->text);
    tw_err err = topic_query_cache_get(&self->queries, self->catalog, job->query, &asked, &why);
    if (err != TW_OK) {
        processor_fail(self, job, err, why.text);
    } else if (job->is_docs) {
        answer_docs(self, job, asked);
    } else {
        answer_page(self, job, asked);
    }
}

/* ---- what the reader answers ---- */

static size_t items_of_page(processor_job *job, size_t parts)
{
    const tw_msg_raw_page *raw = &job->source.raw_page;
    if (raw->raws.count != raw->rows.count) {
        return SIZE_MAX;
    }
    for (size_t i = 0; i < raw->rows.count; i++) {
        const tw_item_raw_row *how = &raw->raws.at[i];
        if (how->part >= parts) {
            return SIZE_MAX;
        }
        if (how->raw) {
            tw_str tail = raw->rows.at[i].tail;
            job->items[job->count++] =
                (processor_item){.doc = {(const uint8_t *)tail.ptr, tail.len},
                                 .part = how->part,
                                 .key = how->key,
                                 .version = how->version};
        }
    }
    return job->count;
}

static void items_of_docs(processor_job *job, size_t part)
{
    const tw_list_record *records = &job->source.records.items;
    for (size_t i = 0; i < records->count; i++) {
        const tw_item_record *record = &records->at[i];
        job->items[job->count++] = (processor_item){
            .doc = record->doc, .part = part, .key = record->key, .version = record->version};
    }
}

static void on_source(void *state, void *context, uint64_t tag, tw_err err, const tw_envelope *in)
{
    struct processor *self = self_of(state);
    processor_job *job;
    TW_CAST(job, context, PROCESSOR_JOB_MAGIC);
    if (err != TW_OK) {
        char why[TW_ERROR_TEXT_MAX] = "";
        if (in != NULL && in->id == TW_MSG_error) {
            tw_str said = in->body->error.why;
            tw_format(why, sizeof why, "%.*s", (int)said.len, said.len == 0 ? "" : said.ptr);
        }
        processor_fail(self, job, err, why);
        return;
    }
    uint64_t number;
    topic_query *asked = NULL;
    broker_why cause = {0};
    tw_str own = tw_arena_str(&job->arena, in->bytes);
    err = own.ptr == NULL
              ? TW_E_NO_MEMORY
              : tw_message_decode(&job->arena, own, &job->source_id, &number, &job->source);
    if (err == TW_OK) {
        err = topic_query_cache_get(&self->queries, self->catalog, job->query, &asked, &cause);
    }
    size_t max = TW_PAGE_ROWS_MAX;
    job->items = tw_arena_alloc(&job->arena, max * sizeof *job->items);
    job->call = tw_arena_alloc(&job->arena, max * sizeof *job->call);
    if (err == TW_OK && (job->items == NULL || job->call == NULL)) {
        err = TW_E_NO_MEMORY;
    }
    if (err == TW_OK && job->is_docs && job->source_id == TW_MSG_records &&
        job->source.records.items.count <= max && tag < asked->parts_count) {
        items_of_docs(job, (size_t)tag);
    } else if (err == TW_OK && (job->is_docs || job->source_id != TW_MSG_raw_page ||
                                items_of_page(job, asked->parts_count) == SIZE_MAX)) {
        err = TW_E_INTERNAL;
    }
    if (err != TW_OK) {
        processor_fail(self, job, err, cause.text);
        return;
    }
    if (job->is_docs && job->count > 0 && asked->parts[tag].rules->processor == NULL) {
        for (size_t i = 0; i < job->count; i++) {
            job->items[i].done = true; /* of a collection that has none */
        }
    }
    processor_go_on(self, job);
}

static int next_reader(struct processor *self)
{
    int reader = self->readers[0];
    for (size_t i = 0; i < self->readers_count; i++) {
        reader = self->readers[self->reader_next++ % self->readers_count];
        if (tw_link_up(self->actor, reader)) {
            break;
        }
    }
    return reader;
}

/* ---- requests ---- */

static tw_err on_page_read(void *state, const tw_envelope *in)
{
    struct processor *self = self_of(state);
    const tw_msg_page_read *ask = &in->body->page_read;
    processor_job *job = NULL;
    if (!processor_may_begin(self, in, ask->query)) {
        return TW_OK;
    }
    tw_err err = job_new(self, in, ask->query, &job);
    if (err != TW_OK) {
        return err;
    }
    const tw_msg_raw_page_read raw = {.query = ask->query,
                                      .fresh = ask->fresh,
                                      .resume = ask->resume,
                                      .now = ask->now,
                                      .after = ask->after,
                                      .w0 = ask->w0,
                                      .since = ask->since,
                                      .bytes_max = ask->bytes_max};
    tw_ask(self->actor, next_reader(self), TW_MSG_raw_page_read, &raw, TW_ASK_TIMEOUT_MS, on_source,
           job, 0);
    return TW_OK;
}

static tw_err on_manifest_docs(void *state, const tw_envelope *in)
{
    struct processor *self = self_of(state);
    tw_msg_manifest_docs ask = in->body->manifest_docs;
    processor_job *job = NULL;
    if (!processor_may_begin(self, in, ask.query)) {
        return TW_OK;
    }
    tw_err err = job_new(self, in, ask.query, &job);
    if (err != TW_OK) {
        return err;
    }
    job->is_docs = true;
    job->rendered = ask.rendered;
    ask.rendered = false;
    tw_ask(self->actor, next_reader(self), TW_MSG_manifest_docs, &ask, TW_ASK_TIMEOUT_MS, on_source,
           job, ask.part);
    return TW_OK;
}

/* ---- the loop ---- */

static void processor_wait(void *state, int timeout_ms)
{
    struct processor *self = self_of(state);
    struct pollfd fds[PROCESSOR_LINKS_MAX + 2] = {
        {.fd = tw_actor_fd(self->actor), .events = POLLIN},
        {.fd = self->wake_fd, .events = POLLIN}};
    for (size_t i = 0; i < self->links_count; i++) {
        fds[i + 2] = (struct pollfd){.fd = self->links[i].socket.fd, .events = POLLIN};
    }
    if (poll(fds, (nfds_t)self->links_count + 2, timeout_ms) <= 0) {
        return;
    }
    eventfd_t count;
    (void)eventfd_read(self->wake_fd, &count); /* EAGAIN: it was not that */
    for (size_t i = 0; i < self->links_count; i++) {
        if ((fds[i + 2].revents & POLLIN) != 0) {
            processor_receive(self, &self->links[i]);
        }
    }
}

static void on_look(void *state, uint64_t tag)
{
    struct processor *self = self_of(state);
    for (size_t i = 0; i < self->links_count; i++) {
        processor_look(self, &self->links[i]);
    }
    tw_timer_set(self->actor, tw_now_ms(self->actor) + LOOK_MS, on_look, tag);
}

static void processor_gauges(void *state, tw_buf *scratch, tw_arena *arena, tw_list_gauge *out)
{
    (void)scratch;
    struct processor *self = self_of(state);
    int64_t down = 0;
    for (size_t i = 0; i < self->links_count; i++) {
        down += atomic_load(&self->links[i].socket.pipes) == 0 ? 1 : 0;
    }
    const tw_item_gauge gauges[] = {
        {TW_STR("processors"), (int64_t)self->links_count},
        {TW_STR("processors_down"), down},
        {TW_STR("processor_jobs"), (int64_t)self->jobs_count},
        {TW_STR("processor_calls_total"), (int64_t)self->calls},
        {TW_STR("processor_documents_total"), (int64_t)self->documents},
        {TW_STR("processor_dropped_total"), (int64_t)self->dropped},
        {TW_STR("processor_failures_total"), (int64_t)self->failures},
        {TW_STR("processor_deadlines_total"), (int64_t)self->deadlines},
        {TW_STR("processor_paused_total"), (int64_t)self->paused},
        {TW_STR("processor_set_aside_total"), (int64_t)self->aside},
    };
    tw_item_gauge *at = tw_arena_alloc(arena, sizeof gauges);
    if (at != NULL) {
        memcpy(at, gauges, sizeof gauges);
        *out = (tw_list_gauge){at, TW_COUNT(gauges)};
    }
}

/* ---- life ---- */

static void processor_fini(void *state)
{
    struct processor *self = self_of(state);
    for (size_t i = 0; i < self->links_count; i++) {
        transport_close(&self->links[i].socket);
    }
    while (!LIST_EMPTY(&self->jobs)) {
        job_free(self, LIST_FIRST(&self->jobs));
    }
    if (self->wake_fd >= 0) {
        (void)close(self->wake_fd);
    }
    topic_query_cache_fini(&self->queries);
    tw_buf_fini(&self->bytes);
    tw_buf_fini(&self->scratch);
    tw_buf_fini(&self->text);
}

/* A connection for each address that the catalog names. */
static tw_err open_links(struct processor *self)
{
    for (size_t i = 0; i < self->catalog->count; i++) {
        const char *address = self->catalog->at[i].processor;
        bool is_known = address == NULL;
        for (size_t k = 0; !is_known && k < self->links_count; k++) {
            is_known = strcmp(self->links[k].address, address) == 0;
        }
        if (is_known) {
            continue;
        }
        if (self->links_count == PROCESSOR_LINKS_MAX) {
            tw_actor_fail(self->actor, TW_E_TOO_MANY, "over %d processors are named",
                          PROCESSOR_LINKS_MAX);
            return TW_E_TOO_MANY;
        }
        processor_link *link = &self->links[self->links_count];
        link->address = address;
        STAILQ_INIT(&link->waiting);
        tw_err err = transport_open(&link->socket, TRANSPORT_LINK, address, self->wake_fd);
        if (err != TW_OK) {
            return err;
        }
        self->links_count++;
        err = transport_dial(&link->socket, address);
        if (err != TW_OK) {
            tw_actor_fail(self->actor, err, "the processor's address %s cannot be used", address);
            return err;
        }
    }
    return TW_OK;
}

static tw_err processor_init(void *state, tw_actor *actor, const void *given)
{
    struct processor *self = state;
    const processor_options *options = given;
    TW_ASSERT(options->catalog != NULL);
    TW_ASSERT(options->readers_count >= 1 && options->readers_count <= TW_LINKS_MAX);
    self->magic = PROCESSOR_MAGIC;
    self->actor = actor;
    self->catalog = options->catalog;
    self->deadline_ms = options->deadline_ms == 0 ? TW_PROCESSOR_MS : options->deadline_ms;
    LIST_INIT(&self->jobs);
    tw_buf_init(&self->bytes, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&self->scratch, TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&self->text, TW_ACTOR_MESSAGE_MAX - 65536);
    for (size_t i = 0; i < options->readers_count; i++) {
        char name[TW_NAME_MAX];
        tw_format(name, sizeof name, "log_reader.%zu", i);
        self->readers[self->readers_count++] = tw_link(actor, name);
    }
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    tw_err err = self->wake_fd < 0 ? TW_E_NO_MEMORY : open_links(self);
    if (err != TW_OK) {
        processor_fini(self);
        return err;
    }
    tw_timer_set(actor, tw_now_ms(actor) + LOOK_MS, on_look, 0);
    return TW_OK;
}

static void processor_drain(void *state)
{
    tw_actor_drained(self_of(state)->actor);
}

static const tw_handler handlers[] = {
    [TW_MSG_page_read] = on_page_read,
    [TW_MSG_manifest_docs] = on_manifest_docs,
};

const tw_actor_class processor_class = {
    .name = "processor",
    .state_size = sizeof(struct processor),
    .init = processor_init,
    .fini = processor_fini,
    .handlers = handlers,
    .handlers_count = TW_COUNT(handlers),
    .wait = processor_wait,
    .on_drain = processor_drain,
    .gauges = processor_gauges,
};
