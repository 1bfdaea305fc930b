/* processor_call.c - calls of services: batches out, outcomes in, and what is done with those that
 * fail.
 *
 * A service answers {"op":"process","collection":C,"docs":[...]} by {"ok":true,"docs":[...]}, as
 * many, each a document or nil. What may fail, and what follows
 *   not connected           the job is put off (unavailable); its asker tries again
 *   no answer in time       the same, and the service is not asked again for a second
 *   refused, wrong answer,  the documents of the call are suspects, each asked for alone from then
 *   connection lost         on, with pauses that double. One that fails TW_PROCESSOR_TRIES times is
 *                           set aside, if the service answers a call without documents rightly */
#include "protocol/codec.h"

#include "actors/runtime/log.h"

#include "actors/processor_priv.h"

enum { SLOW_PAUSE_MS = 1000, RETRY_MS = 50, REQUEST_BIT = 0x80 };

static const topic_query_part *part_of(struct processor *self, const processor_job *job,
                                       size_t part)
{
    topic_query *asked = NULL;
    broker_why why = {0};
    tw_err err = topic_query_cache_get(&self->queries, self->catalog, job->query, &asked, &why);
    return err == TW_OK && part < asked->parts_count ? &asked->parts[part] : NULL;
}

static processor_link *link_of(struct processor *self, const topic_query_part *part)
{
    for (size_t i = 0; i < self->links_count; i++) {
        if (strcmp(self->links[i].address, part->rules->processor) == 0) {
            return &self->links[i];
        }
    }
    return NULL;
}

/* ---- suspects ---- */

static uint64_t hash_of(const topic_query_part *part, const processor_item *item)
{
    uint64_t hash = tw_hash(part->name, strlen(part->name), 1);
    hash = tw_hash(part->db, strlen(part->db), hash);
    hash = tw_hash(item->key.ptr, item->key.len, hash);
    return tw_hash(&item->version, sizeof item->version, hash);
}

static processor_suspect *suspect_of(struct processor *self, const topic_query_part *part,
                                     const processor_item *item)
{
    uint64_t hash = self->suspects_count == 0 ? 0 : hash_of(part, item);
    for (size_t i = 0; i < self->suspects_count; i++) {
        if (self->suspects[i].hash == hash) {
            return &self->suspects[i];
        }
    }
    return NULL;
}

static void forget(struct processor *self, processor_suspect *suspect)
{
    if (suspect != NULL) {
        *suspect = self->suspects[--self->suspects_count];
    }
}

/* The documents of a call failed. */
static void suspect_call(struct processor *self, const topic_query_part *part,
                         const processor_job *job)
{
    uint64_t now = tw_now_ms(self->actor);
    for (size_t i = 0; i < job->call_count; i++) {
        const processor_item *item = &job->items[job->call[i]];
        processor_suspect *at = suspect_of(self, part, item);
        if (at == NULL) {
            bool is_full = self->suspects_count == PROCESSOR_SUSPECTS_MAX;
            at = &self->suspects[is_full ? self->suspects_next++ % PROCESSOR_SUSPECTS_MAX
                                         : self->suspects_count++];
            *at = (processor_suspect){.hash = hash_of(part, item)};
        }
        at->failures += job->call_count == 1 ? 1 : 0; /* in a batch it may be another's fault */
        at->retry_ms = now + (job->call_count == 1 ? (uint64_t)RETRY_MS << at->failures : 0);
    }
}

/* ---- calls ---- */

static tw_err write_call(struct processor *self, const topic_query_part *part,
                         const processor_job *job)
{
    tw_bson_builder b;
    tw_buf_clear(&self->scratch);
    tw_buf_clear(&self->bytes);
    tw_bson_begin(&b, &self->scratch);
    tw_bson_add_str(&b, TW_STR("op"), TW_STR("process"));
    tw_bson_add_str(&b, TW_STR("database"), tw_str_of(part->db));
    tw_bson_add_str(&b, TW_STR("collection"), tw_str_of(part->name));
    tw_bson_open_array(&b, TW_STR("docs"));
    for (size_t i = 0; i < job->call_count; i++) {
        tw_bson_add_doc(&b, TW_STR(""), job->items[job->call[i]].doc);
    }
    tw_bson_close(&b);
    tw_bson call = tw_bson_end(&b);
    if (self->scratch.err == TW_OK) {
        tw_msgpack_from_bson(&self->bytes, call);
    }
    return self->scratch.err != TW_OK ? self->scratch.err : self->bytes.err;
}

/* Whether a service can be called now; why: what it lacks. */
static bool is_callable(struct processor *self, processor_link *link, char *why, size_t size)
{
    bool is_there = atomic_load(&link->socket.pipes) > 0;
    bool is_slow = tw_now_ms(self->actor) < link->slow_until_ms;
    if (is_there && !is_slow) {
        link->told = false;
        return true;
    }
    tw_format(why, size, "the processor at %s %s", link->address,
              is_slow ? "does not answer in time" : "is not there");
    if (!is_there && !link->told) {
        link->told = true;
        tw_log(TW_LOG_WARN, "processor", "%s; what needs it waits", why);
    }
    self->paused++;
    return false;
}

bool processor_may_begin(struct processor *self, const tw_envelope *in, tw_bson canonical)
{
    topic_query *asked = NULL;
    broker_why cause = {0};
    char why[TW_ERROR_TEXT_MAX];
    tw_err err = topic_query_cache_get(&self->queries, self->catalog, canonical, &asked, &cause);
    if (err != TW_OK) {
        tw_reply_error(self->actor, in->route, err, "%s", cause.text);
        return false;
    }
    for (size_t i = 0; i < asked->parts_count; i++) {
        bool has_one = asked->parts[i].rules->processor != NULL;
        processor_link *link = has_one ? link_of(self, &asked->parts[i]) : NULL;
        if (link != NULL && !is_callable(self, link, why, sizeof why)) {
            tw_reply_error(self->actor, in->route, TW_E_UNAVAILABLE, "%s", why);
            return false;
        }
    }
    return true;
}

/* The bytes of the job's call go into a packet. */
static tw_err pack_call(struct processor *self, processor_link *link, processor_job *job,
                        transport_packet **packet)
{
    const topic_query_part *part = part_of(self, job, job->items[job->call[0]].part);
    if (part == NULL) {
        return TW_E_INTERNAL;
    }
    size_t documents = job->call_count;
    job->call_count = job->probing ? 0 : documents;
    tw_err err = write_call(self, part, job);
    job->call_count = documents;
    uint32_t request = ++link->request & 0x7fffffffU;
    const uint8_t header[TRANSPORT_REQUEST_BYTES] = {(uint8_t)(request >> 24 | REQUEST_BIT),
                                                     (uint8_t)(request >> 16),
                                                     (uint8_t)(request >> 8), (uint8_t)request};
    if (err == TW_OK) {
        err = transport_packet_new(packet, (tw_str){(const char *)header, sizeof header},
                                   (tw_str){NULL, 0}, tw_buf_str(&self->bytes));
    }
    return err;
}

/* Sends the job's call; the link is free. */
static void send_call(struct processor *self, processor_link *link, processor_job *job)
{
    char why[TW_ERROR_TEXT_MAX] = "the processor takes nothing at the moment";
    transport_packet *packet = NULL;
    TW_ASSERT(link->busy == NULL);
    tw_err err = is_callable(self, link, why, sizeof why) ? pack_call(self, link, job, &packet)
                                                          : TW_E_UNAVAILABLE;
    link->losses = atomic_load(&link->socket.losses);
    if (err == TW_OK) {
        err = transport_send(&link->socket, &packet);
        err = err == TW_E_BUSY ? TW_E_UNAVAILABLE : err;
    }
    transport_packet_free(&packet);
    if (err != TW_OK) {
        processor_fail(self, job, err, why);
        return;
    }
    link->busy = job;
    link->deadline_ms = tw_now_ms(self->actor) + self->deadline_ms;
    self->calls++;
}

/* The link is free: the next job's turn. */
static void next_job(struct processor *self, processor_link *link)
{
    while (link->busy == NULL && !STAILQ_EMPTY(&link->waiting)) {
        processor_job *job = STAILQ_FIRST(&link->waiting);
        STAILQ_REMOVE_HEAD(&link->waiting, next);
        send_call(self, link, job);
    }
}

/* Which documents go with the next call: the first that is left, alone if it is a suspect, else
 * with others of its collection. False: the job has ended, or nothing is left. */
static bool choose_call(struct processor *self, processor_job *job,
                        const topic_query_part **part_out)
{
    size_t bytes = 0;
    job->call_count = 0;
    job->probing = false;
    for (size_t i = 0; i < job->count; i++) {
        processor_item *item = &job->items[i];
        if (item->done || (job->call_count > 0 && item->part != job->items[job->call[0]].part)) {
            continue;
        }
        const topic_query_part *part = part_of(self, job, item->part);
        if (part == NULL) {
            processor_fail(self, job, TW_E_INTERNAL, "");
            return false;
        }
        const processor_suspect *suspect = suspect_of(self, part, item);
        if (suspect != NULL && suspect->aside) {
            item->done = true;
            item->doc = (tw_bson){0};
            continue;
        }
        if (job->call_count > 0 &&
            (suspect != NULL || bytes + item->doc.len > PROCESSOR_CALL_BYTES)) {
            continue;
        }
        *part_out = part;
        job->call[job->call_count++] = i;
        bytes += item->doc.len;
        if (suspect == NULL) {
            continue;
        }
        if (tw_now_ms(self->actor) < suspect->retry_ms) {
            self->paused++;
            processor_fail(self, job, TW_E_UNAVAILABLE, "a document could not be processed yet");
            return false;
        }
        job->probing = suspect->failures >= TW_PROCESSOR_TRIES;
        return true;
    }
    return job->call_count > 0;
}

void processor_go_on(struct processor *self, processor_job *job)
{
    const topic_query_part *part = NULL;
    TW_ASSERT(job->magic == PROCESSOR_JOB_MAGIC);
    size_t before = self->jobs_count;
    if (!choose_call(self, job, &part)) {
        if (self->jobs_count == before) {
            processor_answer(self, job);
        }
        return;
    }
    processor_link *link = link_of(self, part);
    if (link == NULL) {
        processor_fail(self, job, TW_E_INTERNAL, "");
    } else if (link->busy != NULL) {
        STAILQ_INSERT_TAIL(&link->waiting, job, next);
    } else {
        send_call(self, link, job);
    }
}

/* ---- outcomes ---- */

/* The call failed by the service's answer, or by its end. */
static void call_failed(struct processor *self, processor_job *job, const char *why)
{
    const topic_query_part *part = part_of(self, job, job->items[job->call[0]].part);
    self->failures++;
    self->paused++;
    if (part != NULL && !job->probing) {
        suspect_call(self, part, job);
        tw_log(TW_LOG_WARN, "processor", "%s: %zu documents of %s: %s", part->rules->processor,
               job->call_count, part->name, why);
    }
    processor_fail(self, job, TW_E_UNAVAILABLE, why);
}

/* The service is well, and this document fails: it is set aside. */
static void set_aside(struct processor *self, processor_job *job)
{
    processor_item *item = &job->items[job->call[0]];
    const topic_query_part *part = part_of(self, job, item->part);
    processor_suspect *suspect = part == NULL ? NULL : suspect_of(self, part, item);
    if (suspect != NULL) {
        tw_buf key;
        tw_buf_init(&key, 65536);
        tw_bson_value value = tw_key_value(item->key);
        tw_str text = tw_bson_value_str(value);
        tw_buf_add_str(&key, text.ptr != NULL ? text : TW_STR("(not a text)"));
        suspect->aside = true;
        self->aside++;
        tw_log(
            TW_LOG_ERROR, "processor",
            "%s: %.*s, version %lld, failed %d times and is set aside: streams and syncs leave it "
            "out until it changes or the server is started again",
            part->name, (int)key.len, key.ptr, (long long)item->version, TW_PROCESSOR_TRIES);
        tw_buf_fini(&key);
    }
    item->done = true;
    item->doc = (tw_bson){0};
}

/* Takes the documents of an answer. False: it is wrong. */
static bool take_docs(struct processor *self, processor_job *job, tw_bson answer)
{
    tw_bson_value list = tw_bson_get(answer, TW_STR("docs"));
    size_t expected = job->probing ? 0 : job->call_count;
    tw_bson docs = tw_bson_value_doc(list);
    if (!tw_bson_get_bool_or(answer, TW_STR("ok"), false) || list.type != TW_BSON_ARRAY ||
        tw_bson_count(docs) != expected) {
        return false;
    }
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, docs); tw_bson_iter_next(&iter);) {
        if (iter.value.type != TW_BSON_NULL && iter.value.type != TW_BSON_DOCUMENT) {
            return false;
        }
    }
    const topic_query_part *part = part_of(self, job, job->items[job->call[0]].part);
    size_t i = 0;
    for (tw_bson_iter_init(&iter, docs); tw_bson_iter_next(&iter); i++) {
        processor_item *item = &job->items[job->call[i]];
        if (part != NULL) {
            forget(self, suspect_of(self, part, item));
        }
        item->done = true;
        item->doc = tw_bson_value_doc(iter.value); /* len 0 of nil; in the job's arena */
        self->documents++;
        self->dropped += item->doc.len == 0 ? 1 : 0;
    }
    return true;
}

static void on_answer(struct processor *self, processor_link *link, tw_str body)
{
    processor_job *job = link->busy;
    tw_bson answer;
    link->busy = NULL;
    link->slow_until_ms = 0;
    tw_err err = tw_msgpack_to_bson(&job->arena, body, PROCESSOR_DEPTH_MAX, &answer);
    if (err != TW_OK) {
        call_failed(self, job, "its answer is no msgpack map");
    } else if (!take_docs(self, job, answer)) {
        tw_str said = tw_bson_get_str(answer, TW_STR("message"));
        char why[TW_ERROR_TEXT_MAX];
        tw_format(why, sizeof why, "its answer is wrong%s%.*s", said.ptr == NULL ? "" : ": ",
                  said.len > 200 ? 200 : (int)said.len, said.ptr == NULL ? "" : said.ptr);
        call_failed(self, job, why);
    } else {
        if (job->probing) {
            set_aside(self, job);
        }
        processor_go_on(self, job);
    }
    next_job(self, link);
}

void processor_receive(struct processor *self, processor_link *link)
{
    transport_packet *packet = NULL;
    while (transport_receive(&link->socket, &packet) == TW_OK) {
        tw_str header = transport_packet_header(packet);
        uint32_t request = 0;
        for (size_t i = 0; i < header.len && i < TRANSPORT_REQUEST_BYTES; i++) {
            request = request << 8 | (uint8_t)header.ptr[i];
        }
        bool is_due = link->busy != NULL && header.len == TRANSPORT_REQUEST_BYTES &&
                      (request & 0x7fffffffU) == (link->request & 0x7fffffffU);
        if (is_due) { /* others come too late */
            tw_str body = transport_packet_body(packet);
            tw_str own = tw_arena_str(&link->busy->arena, body);
            on_answer(self, link, own.ptr == NULL ? (tw_str){"", 0} : own);
        }
        transport_packet_free(&packet);
    }
}

void processor_look(struct processor *self, processor_link *link)
{
    processor_job *job = link->busy;
    if (job == NULL) {
        return;
    }
    if (atomic_load(&link->socket.losses) != link->losses) {
        link->busy = NULL;
        call_failed(self, job, "its connection was lost");
    } else if (tw_now_ms(self->actor) >= link->deadline_ms) {
        link->busy = NULL;
        link->slow_until_ms = tw_now_ms(self->actor) + SLOW_PAUSE_MS;
        self->deadlines++;
        self->paused++;
        tw_log(TW_LOG_WARN, "processor", "%s does not answer in %u ms; what needs it waits",
               link->address, self->deadline_ms);
        processor_fail(self, job, TW_E_UNAVAILABLE, "the processor does not answer in time");
    } else {
        return;
    }
    next_job(self, link);
}
