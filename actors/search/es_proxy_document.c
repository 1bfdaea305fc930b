/* es_proxy_document.c - documents by id, of collections whose only store is the engine.
 *
 * Every change goes one way: what is to be modified is read (realtime, by id), changed here by
 * broker/update.c - so the operations mean what they mean in every other store, and no script is
 * needed - and written by one _bulk with the version that was read. What meets another change is
 * read and changed again, ES_MODIFY_ATTEMPTS times. A version is "seqno-term" of the engine. */
#include "broker/update.h"

#include "actors/search/es_proxy_priv.h"

typedef enum change_kind { SAVE, INSERT, UPSERT, UPDATE, MODIFY, DELETE } change_kind;

typedef struct change {
    change_kind kind;
    tw_str id;
    tw_bson given;        /* document, fields or operations */
    tw_bson_value wanted; /* version; type 0: any */
    bool reads;           /* its document has to be read first */
    bool found;           /* it is there */
    tw_str seqno, term;   /* of what was read, as digits; ptr NULL: nothing */
    tw_bson doc;          /* what was read; then what is written; len 0: deleted */
    bool settled;
    tw_err code;
    tw_str why;
    tw_str version; /* after it */
} change;

typedef struct bulk {
    change *at;
    size_t count;
    unsigned attempts;
    size_t *sent; /* indices of changes in the order of the request */
    size_t sent_count;
} bulk;

tw_bson_value es_document_key(es_work *work, const es_index *index, tw_str id)
{
    tw_key key = {NULL, 0};
    tw_buf text;
    tw_bson_builder b;
    tw_bson_value value = {0};
    if (!index->rules->search_store && search_key_of_id(&work->arena, id, &key) == TW_OK) {
        return tw_key_value(key);
    }
    tw_buf_init(&text, TW_KEY_MAX * 2);
    tw_bson_begin(&b, &text);
    tw_bson_add_str(&b, TW_STR("k"), id);
    tw_bson doc = tw_bson_end(&b);
    doc = text.err == TW_OK ? tw_arena_bson(&work->arena, doc) : (tw_bson){NULL, 0};
    value = tw_bson_get(doc, TW_STR("k"));
    tw_buf_fini(&text);
    return value;
}

/* The document of a _source, with its key first, in the arena; len 0: no memory. */
static tw_bson document_of(es_work *work, tw_str id, tw_bson source)
{
    const es_index *index = work->indices[0];
    tw_bson_builder b;
    tw_buf_clear(&work->reply);
    tw_bson_begin(&b, &work->reply);
    search_doc_read(&b, source, tw_str_of(index->rules->key), es_document_key(work, index, id));
    tw_bson doc = tw_bson_end(&b);
    return work->reply.err == TW_OK ? tw_arena_bson(&work->arena, doc) : (tw_bson){NULL, 0};
}

static tw_str number_of(es_work *work, tw_bson doc, const char *name)
{
    int64_t value = tw_bson_get_i64_or(doc, tw_str_of(name), -1);
    return value < 0 ? (tw_str){NULL, 0} : tw_str_of(es_text(work, "%lld", (long long)value));
}

static tw_str version_of(es_work *work, tw_bson doc)
{
    tw_str seqno = number_of(work, doc, "_seq_no");
    tw_str term = number_of(work, doc, "_primary_term");
    if (seqno.ptr == NULL || term.ptr == NULL) {
        return (tw_str){NULL, 0};
    }
    return tw_str_of(es_text(work, "%s-%s", seqno.ptr, term.ptr));
}

static void ask_documents(es_work *work, const tw_str *ids, size_t count, es_answered answered)
{
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_open_array(&b, TW_STR("ids"));
    for (size_t i = 0; i < count; i++) {
        tw_bson_add_str(&b, TW_STR(""), ids[i]);
    }
    tw_bson_close(&b);
    const es_call call = {.method = "POST",
                          .path = es_path(work, "/_mget"),
                          .body = es_json(work, &b),
                          .idempotent = true,
                          .large = true};
    es_call_send(work, &call, answered);
}

/* ---- multiget ---- */
static void on_documents(es_work *work, const es_reply *reply)
{
    tw_bson docs = tw_bson_get_doc(reply->body, TW_STR("docs"));
    size_t count = tw_bson_count(docs);
    tw_item_search_item *items = tw_arena_zero(&work->arena, count + 1, sizeof *items);
    size_t found = 0;
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, docs); items != NULL && tw_bson_iter_next(&iter);) {
        tw_bson told = tw_bson_value_doc(iter.value);
        tw_str id = tw_bson_get_str(told, TW_STR("_id"));
        if (!tw_bson_get_bool_or(told, TW_STR("found"), false) || id.ptr == NULL) {
            continue;
        }
        tw_bson doc = document_of(work, id, tw_bson_get_doc(told, TW_STR("_source")));
        tw_bson_builder b;
        tw_buf_clear(&work->reply);
        tw_bson_begin(&b, &work->reply);
        tw_bson_add_str(&b, TW_STR("id"), id);
        tw_bson_add_str(&b, TW_STR("version"), version_of(work, told));
        tw_bson_add_doc(&b, TW_STR("doc"), doc);
        tw_bson built = tw_bson_end(&b);
        items[found].doc =
            work->reply.err == TW_OK ? tw_arena_bson(&work->arena, built) : (tw_bson){NULL, 0};
        if (doc.ptr == NULL || items[found].doc.ptr == NULL) {
            es_fail(work, TW_E_TOO_BIG, "The documents are too large together.");
            return;
        }
        found++;
    }
    es_answer_items(work, items, items == NULL ? 0 : found, (tw_str){NULL, 0}, found);
}

void es_multiget(es_work *work)
{
    tw_bson ids = tw_bson_get_doc(work->asked.search_ask.args, TW_STR("ids"));
    size_t count = tw_bson_count(ids);
    tw_str *names = tw_arena_alloc(&work->arena, (count + 1) * sizeof *names);
    tw_bson_iter iter;
    size_t at = 0;
    for (tw_bson_iter_init(&iter, ids); names != NULL && tw_bson_iter_next(&iter);) {
        tw_str id = tw_bson_value_str(iter.value);
        if (id.ptr != NULL && id.len > 0 && id.len <= SEARCH_ID_MAX) {
            names[at++] = id; /* no document has another */
        }
    }
    if (names == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for so many ids.");
    } else if (at == 0) {
        es_answer_items(work, NULL, 0, (tw_str){NULL, 0}, 0);
    } else {
        ask_documents(work, names, at, on_documents);
    }
}

/* ---- reading a plan ---- */
static const struct kind_row {
    const char *name;
    change_kind kind;
    bool reads, given;
} kinds[] = {
    {"save", SAVE, false, true},    {"insert", INSERT, false, true},
    {"upsert", UPSERT, true, true}, {"update", UPDATE, true, true},
    {"modify", MODIFY, true, true}, {"delete", DELETE, false, false},
};

static void settle(change *self, tw_err code, const char *why)
{
    self->settled = true;
    self->code = code;
    self->why = tw_str_of(why);
}

static bool read_change(tw_bson_value value, change *out)
{
    tw_bson list = tw_bson_value_doc(value);
    tw_str name = tw_bson_get_str(list, TW_STR("0"));
    for (size_t i = 0; name.ptr != NULL && i < TW_COUNT(kinds); i++) {
        if (!tw_str_equal(name, tw_str_of(kinds[i].name))) {
            continue;
        }
        *out = (change){.kind = kinds[i].kind,
                        .reads = kinds[i].reads,
                        .id = tw_bson_get_str(list, TW_STR("1")),
                        .wanted = tw_bson_get(list, kinds[i].given ? TW_STR("3") : TW_STR("2"))};
        out->given = kinds[i].given ? tw_bson_get_doc(list, TW_STR("2")) : out->given;
        if (out->id.ptr == NULL) {
            return false;
        }
        if (out->id.len == 0 || out->id.len > SEARCH_ID_MAX) {
            settle(out, TW_E_BAD_DOCUMENT, "An id is text of 1 to 512 bytes.");
        }
        return true;
    }
    return false;
}

/* A version as it was told: "seqno-term"; 0: nothing may be there. False: neither. */
static bool read_version(es_work *work, change *self)
{
    tw_str text = tw_bson_value_str(self->wanted);
    const char *dash = text.ptr == NULL ? NULL : memchr(text.ptr, '-', text.len);
    uint64_t number;
    int64_t none;
    if (tw_bson_value_i64(self->wanted, &none)) {
        return none == 0 && self->kind == SAVE;
    }
    if (dash == NULL) {
        return false;
    }
    tw_str seqno = {text.ptr, (size_t)(dash - text.ptr)};
    tw_str term = {dash + 1, text.len - seqno.len - 1};
    if (tw_parse_u64(seqno, INT64_MAX, &number) != TW_OK ||
        tw_parse_u64(term, INT64_MAX, &number) != TW_OK) {
        return false;
    }
    if (self->reads) {
        return true; /* compared with what is read */
    }
    self->seqno = tw_arena_str(&work->arena, seqno);
    self->term = tw_arena_str(&work->arena, term);
    return true;
}

/* ---- one round: read, change, write ---- */
static void round_begin(es_work *work);

static void answer_bulk(es_work *work)
{
    const bulk *self = work->state;
    tw_item_search_item *items = tw_arena_zero(&work->arena, self->count, sizeof *items);
    for (size_t i = 0; items != NULL && i < self->count; i++) {
        const change *one = &self->at[i];
        tw_bson_builder b;
        tw_buf_clear(&work->reply);
        tw_bson_begin(&b, &work->reply);
        tw_bson_add_str(&b, TW_STR("id"), one->id);
        if (one->code != TW_OK) {
            tw_bson_add_str(&b, TW_STR("code"), tw_str_of(tw_err_code(one->code)));
            tw_bson_add_str(&b, TW_STR("message"),
                            one->why.len > 0 ? one->why : tw_str_of(tw_err_text(one->code)));
        }
        if (one->version.len > 0) {
            tw_bson_add_str(&b, TW_STR("version"), one->version);
        }
        if (one->code == TW_OK && one->doc.len > 0) {
            tw_bson_add_doc(&b, TW_STR("doc"), one->doc);
        }
        tw_bson built = tw_bson_end(&b);
        items[i].doc =
            work->reply.err == TW_OK ? tw_arena_bson(&work->arena, built) : (tw_bson){NULL, 0};
    }
    if (items == NULL || items[self->count - 1].doc.ptr == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "The changes were made; there is no memory to tell them.");
        return;
    }
    es_answer_items(work, items, self->count, (tw_str){NULL, 0}, self->count);
}

static void on_item(es_work *work, change *one, tw_bson told)
{
    int status = (int)tw_bson_get_i64_or(told, TW_STR("status"), 500);
    bool own_version = one->wanted.type == 0 && one->reads;
    if (status < 300) {
        one->settled = true;
        one->version = version_of(work, told);
        return;
    }
    tw_str why = {NULL, 0};
    tw_err err = es_error_of(status, tw_bson_get_doc(told, TW_STR("error")), &why);
    const bulk *self = work->state;
    if (err == TW_E_CONFLICT && own_version && self->attempts < ES_MODIFY_ATTEMPTS) {
        return; /* another change came between: once more */
    }
    one->settled = true;
    one->code = err;
    one->why = err == TW_E_CONFLICT || err == TW_E_NOT_FOUND ? (tw_str){NULL, 0}
                                                             : tw_arena_str(&work->arena, why);
}

static void on_written(es_work *work, const es_reply *reply)
{
    bulk *self = work->state;
    tw_bson_iter iter;
    size_t at = 0;
    for (tw_bson_iter_init(&iter, tw_bson_get_doc(reply->body, TW_STR("items")));
         at < self->sent_count && tw_bson_iter_next(&iter); at++) {
        tw_bson_iter inner; /* {"index": {...}} */
        tw_bson_iter_init(&inner, tw_bson_value_doc(iter.value));
        if (tw_bson_iter_next(&inner)) {
            on_item(work, &self->at[self->sent[at]], tw_bson_value_doc(inner.value));
        }
    }
    if (at < self->sent_count) {
        es_fail(work, TW_E_SEARCH_UNAVAILABLE, "The engine answered for fewer changes than sent.");
        return;
    }
    round_begin(work);
}

static void add_line(es_work *work, const change *one)
{
    bool creates = one->kind == INSERT || (one->kind == UPSERT && !one->found) ||
                   (one->kind == SAVE && tw_bson_value_is_number(one->wanted));
    const char *action = one->kind == DELETE ? "delete" : creates ? "create" : "index";
    tw_buf_format(&work->out, "{\"%s\":{\"_id\":", action);
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_clear(&work->built);
    tw_bson_begin(&b, &work->built);
    tw_bson_add_str(&b, TW_STR("_id"), one->id);
    tw_bson_iter_init(&iter, tw_bson_end(&b));
    if (tw_bson_iter_next(&iter)) {
        search_json_value(&work->out, iter.value);
    }
    if (one->seqno.ptr != NULL && !creates) {
        tw_buf_format(&work->out, ",\"if_seq_no\":%.*s,\"if_primary_term\":%.*s",
                      (int)one->seqno.len, one->seqno.ptr, (int)one->term.len, one->term.ptr);
    }
    tw_buf_add_str(&work->out, TW_STR("}}\n"));
    if (one->kind != DELETE) {
        search_doc_write(&work->out, one->doc, one->id, 0);
        tw_buf_add_byte(&work->out, '\n');
    }
}

/* What a change makes of the document that was read. */
static tw_err compute(es_work *work, change *one)
{
    const es_index *index = work->indices[0];
    broker_why why = {.text = ""};
    tw_bson update = {NULL, 0};
    tw_err err = TW_OK;
    if (one->kind == DELETE) {
        return TW_OK;
    }
    if (one->kind == SAVE || one->kind == INSERT || (one->kind == UPSERT && !one->found)) {
        one->doc = document_of(work, one->id, one->given);
        return one->doc.ptr == NULL ? TW_E_TOO_BIG : TW_OK;
    }
    if (!one->found) {
        settle(one, TW_E_NOT_FOUND, "");
        return TW_OK;
    }
    err = one->kind == MODIFY ? update_of_operations(&work->arena, one->given, &update, &why)
                              : update_of_fields(&work->arena, one->given, &update, &why);
    if (err == TW_OK) {
        err = update_apply(&work->arena, one->doc, update, tw_str_of(index->rules->key),
                           tw_unix_ms(work->proxy->actor), &one->doc, &why);
    }
    if (err != TW_OK && err != TW_E_NO_MEMORY) {
        settle(one, err, tw_arena_format(&work->arena, "%s", why.text));
        err = TW_OK;
    }
    return err;
}

static void write_changes(es_work *work)
{
    bulk *self = work->state;
    self->sent_count = 0;
    tw_buf_clear(&work->out);
    tw_buf_clear(&work->built);
    for (size_t i = 0; i < self->count; i++) {
        change *one = &self->at[i];
        tw_err err = one->settled ? TW_OK : compute(work, one);
        if (err != TW_OK) {
            es_fail(work, err, "A document of the plan is too large.");
            return;
        }
        if (!one->settled) {
            add_line(work, one);
            self->sent[self->sent_count++] = i;
        }
    }
    if (self->sent_count == 0) {
        answer_bulk(work);
        return;
    }
    const es_call call = {.method = "POST",
                          .path = es_path(work, "/_bulk"),
                          .body = tw_buf_str(&work->out),
                          .lines = true,
                          .large = true};
    es_call_send(work, &call, on_written);
}

static void take_read(es_work *work, change *one, tw_bson told)
{
    one->found = tw_bson_get_bool_or(told, TW_STR("found"), false);
    one->seqno = number_of(work, told, "_seq_no");
    one->term = number_of(work, told, "_primary_term");
    tw_str version = version_of(work, told);
    if (one->found) {
        one->doc = document_of(work, one->id, tw_bson_get_doc(told, TW_STR("_source")));
    } else {
        one->doc = (tw_bson){NULL, 0};
    }
    if (one->found && one->doc.ptr == NULL) {
        settle(one, TW_E_TOO_BIG, "");
    } else if (one->wanted.type != 0 && one->found &&
               !tw_str_equal(version, tw_bson_value_str(one->wanted))) {
        settle(one, TW_E_CONFLICT, "");
        one->version = version;
    }
}

static void on_read(es_work *work, const es_reply *reply)
{
    bulk *self = work->state;
    tw_bson_iter iter;
    size_t at = 0;
    tw_bson_iter_init(&iter, tw_bson_get_doc(reply->body, TW_STR("docs")));
    for (; at < self->sent_count && tw_bson_iter_next(&iter); at++) {
        take_read(work, &self->at[self->sent[at]], tw_bson_value_doc(iter.value));
    }
    if (at < self->sent_count) {
        es_fail(work, TW_E_SEARCH_UNAVAILABLE, "The engine told fewer documents than asked for.");
        return;
    }
    write_changes(work);
}

/* Reads what is to be modified and was not settled yet; all settled: answers. */
static void round_begin(es_work *work)
{
    bulk *self = work->state;
    tw_str *ids = tw_arena_alloc(&work->arena, (self->count + 1) * sizeof *ids);
    size_t open = 0;
    self->sent_count = 0;
    self->attempts++;
    for (size_t i = 0; ids != NULL && i < self->count; i++) {
        open += self->at[i].settled ? 0 : 1;
        if (!self->at[i].settled && self->at[i].reads) {
            ids[self->sent_count] = self->at[i].id;
            self->sent[self->sent_count++] = i;
        }
    }
    if (ids == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for this plan.");
    } else if (open == 0) {
        answer_bulk(work);
    } else if (self->sent_count > 0) {
        ask_documents(work, ids, self->sent_count, on_read);
    } else {
        write_changes(work);
    }
}

void es_bulk(es_work *work)
{
    tw_bson plan = tw_bson_get_doc(work->asked.search_ask.args, TW_STR("bulk_plan"));
    size_t count = tw_bson_count(plan);
    bulk *self = tw_arena_zero(&work->arena, 1, sizeof *self);
    tw_bson_iter iter;
    if (work->indices[0]->busy) {
        es_fail_hint(work, TW_E_BUSY, "The index is being copied; writes wait.", "");
        return;
    }
    if (self == NULL || count == 0 || count > TW_BULK_MAX) {
        es_fail(work, count > TW_BULK_MAX ? TW_E_TOO_MANY : TW_E_BAD_MESSAGE,
                "A plan has 1 to %d operations.", TW_BULK_MAX);
        return;
    }
    self->at = tw_arena_zero(&work->arena, count, sizeof *self->at);
    self->sent = tw_arena_zero(&work->arena, count, sizeof *self->sent);
    if (self->at == NULL || self->sent == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for this plan.");
        return;
    }
    for (tw_bson_iter_init(&iter, plan); tw_bson_iter_next(&iter) && self->count < count;) {
        change *one = &self->at[self->count];
        bool good = read_change(iter.value, one);
        if (good && one->wanted.type != 0 && !read_version(work, one)) {
            es_fail(work, TW_E_BAD_MESSAGE,
                    "\"version\" is to be what get told, or 0 for a document that is not there.");
            return;
        }
        if (!good) {
            es_fail(work, TW_E_BAD_MESSAGE, "bulk_plan[%zu] is no operation.", self->count);
            return;
        }
        self->count++;
    }
    work->state = self;
    round_begin(work);
}
