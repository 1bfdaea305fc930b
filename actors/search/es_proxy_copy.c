/* es_proxy_copy.c - indices are put right: by a setting, or by a copy.
 *
 * A copy (reindex, fix_shards, wipe) goes into an index of its own with the declared mapping and
 * shards; the alias is moved in one step when it is complete, then the old one goes. Until then the
 * old one takes no writes, and a copy that fails leaves it as it was. */
#include "actors/runtime/log.h"

#include "actors/search/es_proxy_priv.h"

/* ---- settings ---- */
static void ask_settings(es_work *work, es_answered answered)
{
    const es_call call = {.method = "GET",
                          .path = es_path(work, "/_settings?flat_settings=true"),
                          .idempotent = true};
    es_call_send(work, &call, answered);
}

typedef struct fix {
    const char *name; /* of the setting */
    tw_str was;
    const char *wanted;
} fix;

static void answer_fix(es_work *work, bool changed)
{
    const fix *self = work->state;
    tw_bson_builder b;
    es_result_begin(work, &b);
    tw_bson_add_str(&b, TW_STR("setting"), tw_str_of(self->name));
    if (self->was.ptr != NULL) {
        tw_bson_add_str(&b, TW_STR("was"), self->was);
    } else {
        tw_bson_add_null(&b, TW_STR("was"));
    }
    tw_bson_add_str(&b, TW_STR("wanted"), tw_str_of(self->wanted));
    tw_bson_add_bool(&b, TW_STR("changed"), changed);
    if (es_is_dry(work)) {
        tw_bson_add_bool(&b, TW_STR("dry_run"), true);
    }
    es_answer_result(work, &b);
}

static void on_fixed(es_work *work, const es_reply *reply)
{
    (void)reply;
    answer_fix(work, true);
}

static void on_setting(es_work *work, const es_reply *reply)
{
    fix *self = work->state;
    self->was = tw_arena_str(&work->arena, es_setting_of(reply, self->name));
    if (tw_str_equal(self->was, tw_str_of(self->wanted)) || es_is_dry(work)) {
        answer_fix(work, false);
        return;
    }
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_add_str(&b, tw_str_of(self->name), tw_str_of(self->wanted));
    const es_call call = {.method = "PUT",
                          .path = es_path(work, "/_settings"),
                          .body = es_json(work, &b),
                          .idempotent = true};
    es_call_send(work, &call, on_fixed);
}

static void begin_fix(es_work *work, const char *name, const char *wanted, es_answered answered)
{
    fix *self = tw_arena_zero(&work->arena, 1, sizeof *self);
    if (self == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for this.");
        return;
    }
    *self = (fix){.name = name, .wanted = wanted};
    work->state = self;
    ask_settings(work, answered);
}

void es_fix_replicas(es_work *work)
{
    long long wanted = (long long)es_replicas_of(work->proxy, work->indices[0]);
    begin_fix(work, "index.number_of_replicas", es_text(work, "%lld", wanted), on_setting);
}

void es_fix_ilm(es_work *work)
{
    const char *policy = work->indices[0]->rules->search_lifecycle;
    if (policy == NULL) {
        es_fail_hint(work, TW_E_UNSUPPORTED, "The collection declares no lifecycle.",
                     "Declare one: search: {lifecycle: POLICY}.");
        return;
    }
    if (work->proxy->flavour->lifecycle == NULL) {
        es_fail(work, TW_E_UNSUPPORTED, "%s has no index lifecycles.", work->proxy->flavour->name);
        return;
    }
    begin_fix(work, work->proxy->flavour->lifecycle, policy, on_setting);
}

/* ---- copies ---- */
typedef struct copy {
    const char *what; /* reindex, fix_shards, wipe */
    const char *from, *to;
    const char *task;
    int64_t documents;
    tw_err err;
    char why[TW_ERROR_TEXT_MAX];
    bool copies; /* wipe does not */
    bool stale;  /* what stood in its place was removed */
    const fix *fix;
    es_step done; /* NULL: the asker is answered */
    void *kept;   /* state of who goes on with done */
} copy;

static void answer_copy(es_work *work, bool done)
{
    const copy *self = work->state;
    const es_index *index = work->indices[0];
    tw_bson_builder b;
    es_result_begin(work, &b);
    if (!done) {
        tw_bson_add_bool(&b, TW_STR("dry_run"), true);
    }
    tw_bson_add_str(&b, TW_STR("from"), tw_str_of(self->from));
    tw_bson_add_str(&b, TW_STR("to"), tw_str_of(self->to));
    tw_bson_add_i64(&b, TW_STR("count"), self->documents);
    if (self->task != NULL) {
        tw_bson_add_str(&b, TW_STR("task"), tw_str_of(self->task));
    }
    if (self->fix != NULL) {
        tw_bson_add_str(&b, TW_STR("was"), self->fix->was);
        tw_bson_add_str(&b, TW_STR("wanted"), tw_str_of(self->fix->wanted));
        tw_bson_add_bool(&b, TW_STR("changed"), done);
    }
    if (!done && index->mapping_why[0] != '\0') {
        tw_bson_add_str(&b, TW_STR("mapping"), tw_str_of(index->mapping_why));
    }
    es_answer_result(work, &b);
}

/* The deadline of a copy is not the asker's: it goes on when the asker has given up. */
static void call_of_copy(es_work *work, es_call call, es_answered answered)
{
    call.wait_ms = ES_MANAGE_MS;
    call.idempotent = true;
    call.tolerant = true;
    es_call_send(work, &call, answered);
}

static void on_given_up(es_work *work, const es_reply *reply)
{
    (void)reply;
    const copy *self = work->state;
    es_fail_hint(work, self->err, self->why, "The index is as it was.");
}

static void on_unblocked(es_work *work, const es_reply *reply)
{
    (void)reply;
    const copy *self = work->state;
    work->indices[0]->busy = false;
    call_of_copy(work, (es_call){.method = "DELETE", .path = es_text(work, "/%s", self->to)},
                 on_given_up);
}

static void unblock(es_work *work)
{
    const copy *self = work->state;
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_add_null(&b, TW_STR("index.blocks.write"));
    call_of_copy(work,
                 (es_call){.method = "PUT",
                           .path = es_text(work, "/%s/_settings", self->from),
                           .body = es_json(work, &b)},
                 on_unblocked);
}

static void give_up(es_work *work, const es_reply *reply)
{
    copy *self = work->state;
    tw_str why = {NULL, 0};
    self->err = es_error_of(reply->status, tw_bson_get_doc(reply->body, TW_STR("error")), &why);
    tw_format(self->why, sizeof self->why, "%s: the engine says (%d): %.*s", self->what,
              reply->status, (int)why.len, why.len == 0 ? "" : why.ptr);
    unblock(work);
}

/* The cluster went away in the middle of a copy: the old index takes writes again as soon as it is
 * back, however long that takes. */
static void copy_lost(es_work *work)
{
    copy *self = work->state;
    self->err = TW_E_SEARCH_UNAVAILABLE;
    tw_format(self->why, sizeof self->why, "%s: the search cluster went away.", self->what);
    es_wait(work, ES_LOST_MS, unblock);
}

/* Back to who wanted an empty index. */
static void go_on(es_work *work)
{
    const copy *self = work->state;
    es_step done = self->done;
    work->state = self->kept;
    work->lost = NULL;
    done(work);
}

static void on_old_gone(es_work *work, const es_reply *reply)
{
    (void)reply; /* an old index that stays costs room only */
    es_index *index = work->indices[0];
    const copy *self = work->state;
    index->busy = false;
    index->mapping_why[0] = '\0';
    index->told = (self->copies || self->done != NULL) && index->told;
    tw_log(TW_LOG_INFO, tw_actor_name(work->proxy->actor), "%s: %s is now %s, %lld documents",
           self->what, index->alias, self->to, (long long)self->documents);
    if (self->done != NULL) {
        go_on(work);
    } else {
        answer_copy(work, true);
    }
}

static void on_swapped(es_work *work, const es_reply *reply)
{
    const copy *self = work->state;
    if (reply->status >= 400) {
        give_up(work, reply);
        return;
    }
    call_of_copy(work, (es_call){.method = "DELETE", .path = es_text(work, "/%s", self->from)},
                 on_old_gone);
}

static void add_alias_action(tw_bson_builder *b, const char *action, const char *index,
                             const char *alias)
{
    tw_bson_open_doc(b, TW_STR(""));
    tw_bson_open_doc(b, tw_str_of(action));
    tw_bson_add_str(b, TW_STR("index"), tw_str_of(index));
    tw_bson_add_str(b, TW_STR("alias"), tw_str_of(alias));
    tw_bson_close(b);
    tw_bson_close(b);
}

static void swap(es_work *work)
{
    const copy *self = work->state;
    const char *alias = work->indices[0]->alias;
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_open_array(&b, TW_STR("actions"));
    add_alias_action(&b, "remove", self->from, alias);
    add_alias_action(&b, "add", self->to, alias);
    tw_bson_close(&b);
    call_of_copy(work, (es_call){.method = "POST", .path = "/_aliases", .body = es_json(work, &b)},
                 on_swapped);
}

static void on_refreshed(es_work *work, const es_reply *reply)
{
    (void)reply;
    swap(work);
}

static void poll_task(es_work *work);

static void on_task(es_work *work, const es_reply *reply)
{
    copy *self = work->state;
    if (reply->status >= 400 && reply->status != 503 && reply->status != 429 &&
        reply->status != 500) { /* 500: it did not end while we waited */
        give_up(work, reply);
        return;
    }
    if (!tw_bson_get_bool_or(reply->body, TW_STR("completed"), false)) {
        poll_task(work);
        return;
    }
    tw_bson response = tw_bson_get_doc(reply->body, TW_STR("response"));
    tw_bson failures = tw_bson_get_doc(response, TW_STR("failures"));
    if (tw_bson_count(failures) > 0 || response.len == 0) {
        tw_bson first = tw_bson_get_doc(failures, TW_STR("0"));
        tw_bson cause = tw_bson_get_doc(first, TW_STR("cause"));
        tw_bson_builder b;
        tw_buf_clear(&work->reply);
        tw_bson_begin(&b, &work->reply);
        tw_bson_add_doc(&b, TW_STR("error"), cause);
        const es_reply failure = {.status = 400, .body = tw_bson_end(&b)};
        give_up(work, &failure);
        return;
    }
    call_of_copy(work, (es_call){.method = "POST", .path = es_text(work, "/%s/_refresh", self->to)},
                 on_refreshed);
}

static void poll_task(es_work *work)
{
    const copy *self = work->state;
    call_of_copy(work,
                 (es_call){.method = "GET",
                           .path = es_text(work, "/_tasks/%s?wait_for_completion=true&timeout=%dms",
                                           self->task, ES_TASK_POLL_MS)},
                 on_task);
}

static void on_copying(es_work *work, const es_reply *reply)
{
    copy *self = work->state;
    tw_str task = tw_bson_get_str(reply->body, TW_STR("task"));
    if (reply->status >= 400 || task.ptr == NULL) {
        give_up(work, reply);
        return;
    }
    self->task = es_text(work, "%.*s", (int)task.len, task.ptr);
    poll_task(work);
}

static void on_blocked(es_work *work, const es_reply *reply)
{
    const copy *self = work->state;
    if (reply->status >= 400) {
        give_up(work, reply);
        return;
    }
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_open_doc(&b, TW_STR("source"));
    tw_bson_add_str(&b, TW_STR("index"), tw_str_of(self->from));
    tw_bson_close(&b);
    tw_bson_open_doc(&b, TW_STR("dest"));
    tw_bson_add_str(&b, TW_STR("index"), tw_str_of(self->to));
    tw_bson_add_str(&b, TW_STR("version_type"), TW_STR("external")); /* versions are kept */
    tw_bson_close(&b);
    call_of_copy(work,
                 (es_call){.method = "POST",
                           .path = "/_reindex?wait_for_completion=false",
                           .body = es_json(work, &b)},
                 on_copying);
}

static void make_target(es_work *work);

static void on_stale_gone(es_work *work, const es_reply *reply)
{
    (void)reply;
    make_target(work);
}

static void on_target_made(es_work *work, const es_reply *reply)
{
    copy *self = work->state;
    tw_bson error = tw_bson_get_doc(reply->body, TW_STR("error"));
    if (!self->stale && tw_str_equal(tw_bson_get_str(error, TW_STR("type")),
                                     TW_STR("resource_already_exists_exception"))) {
        self->stale = true; /* of a copy whose process died */
        call_of_copy(work, (es_call){.method = "DELETE", .path = es_text(work, "/%s", self->to)},
                     on_stale_gone);
        return;
    }
    if (reply->status >= 400) {
        work->indices[0]->busy = false;
        es_fail_reply(work, reply);
        return;
    }
    if (!self->copies) { /* nothing of the old index is wanted */
        swap(work);
        return;
    }
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_add_bool(&b, TW_STR("index.blocks.write"), true);
    call_of_copy(work,
                 (es_call){.method = "PUT",
                           .path = es_text(work, "/%s/_settings", self->from),
                           .body = es_json(work, &b)},
                 on_blocked);
}

/* alias-000007 -> alias-000008; NULL: the index has no number, so it is none of ours. */
static const char *next_name(es_work *work, tw_str from)
{
    tw_str alias = tw_str_of(work->indices[0]->alias);
    uint64_t number = 0;
    if (from.len != alias.len + 7 || from.ptr[alias.len] != '-' ||
        tw_parse_u64((tw_str){from.ptr + alias.len + 1, 6}, ES_NUMBER_MAX, &number) != TW_OK) {
        return NULL;
    }
    return es_text(work, "%s-%06llu", alias.ptr,
                   (unsigned long long)(number == ES_NUMBER_MAX ? ES_NUMBER_FIRST : number + 1));
}

static void on_counted(es_work *work, const es_reply *reply)
{
    copy *self = work->state;
    self->documents = tw_bson_get_i64_or(reply->body, TW_STR("count"), 0);
    if (self->done == NULL && es_is_dry(work)) {
        answer_copy(work, false);
        return;
    }
    if (work->indices[0]->busy) {
        es_fail(work, TW_E_BUSY, "The index is being copied already.");
        return;
    }
    if (self->done != NULL && self->documents == 0) { /* it is empty */
        go_on(work);
        return;
    }
    work->indices[0]->busy = true;
    work->lost = copy_lost;
    work->start = NULL; /* what is not found is not to be made now */
    make_target(work);
}

static void make_target(es_work *work)
{
    const copy *self = work->state;
    tw_bson_builder b;
    es_begin(work, &b);
    es_add_index_body(work->proxy, &b, work->indices[0], NULL);
    call_of_copy(work,
                 (es_call){.method = "PUT",
                           .path = es_text(work, "/%s", self->to),
                           .body = es_json(work, &b)},
                 on_target_made);
}

static void on_source(es_work *work, const es_reply *reply)
{
    copy *self = work->state;
    tw_str from;
    (void)es_only_of(reply, &from);
    self->from = es_text(work, "%.*s", (int)from.len, from.ptr == NULL ? "" : from.ptr);
    self->to = next_name(work, tw_str_of(self->from));
    if (self->to == NULL) {
        es_fail_hint(work, TW_E_UNSUPPORTED, "The index stands without an alias.",
                     "Its name has to be free for one: copy it under another name.");
        return;
    }
    tw_bson_builder b;
    es_begin(work, &b);
    es_add_documents(&b, false);
    const es_call call = {.method = "POST",
                          .path = es_text(work, "/%s/_count", self->from),
                          .body = es_json(work, &b),
                          .idempotent = true};
    es_call_send(work, &call, on_counted);
}

static void begin_copy(es_work *work, const char *what, bool copies, const fix *by, es_step done)
{
    copy *self = tw_arena_zero(&work->arena, 1, sizeof *self);
    if (self == NULL) {
        es_fail(work, TW_E_NO_MEMORY, "There is no memory for this.");
        return;
    }
    *self = (copy){.what = what, .copies = copies, .fix = by, .done = done, .kept = work->state};
    work->state = self;
    const es_call call = {.method = "GET", .path = es_path(work, "/_alias"), .idempotent = true};
    es_call_send(work, &call, on_source);
}

void es_reindex(es_work *work)
{
    begin_copy(work, "reindex", true, NULL, NULL);
}

void es_wipe(es_work *work)
{
    begin_copy(work, "wipe", false, NULL, NULL);
}

void es_empty(es_work *work, es_step ready)
{
    begin_copy(work, "drop", false, NULL, ready);
}

static void on_shards(es_work *work, const es_reply *reply)
{
    fix *self = work->state;
    self->was = tw_arena_str(&work->arena, es_setting_of(reply, self->name));
    if (tw_str_equal(self->was, tw_str_of(self->wanted))) {
        answer_fix(work, false);
    } else {
        begin_copy(work, "fix_shards", true, self, NULL);
    }
}

void es_fix_shards(es_work *work)
{
    long long wanted = (long long)es_shards_of(work->proxy, work->indices[0]);
    begin_fix(work, "index.number_of_shards", es_text(work, "%lld", wanted), on_shards);
}
