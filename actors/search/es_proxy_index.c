/* es_proxy_index.c - indices: made from what a collection declares, extended, told of. */
#include "actors/runtime/log.h"

#include "actors/search/es_proxy_priv.h"

/* ---- what an index is made of ---- */
static void add_own_properties(tw_bson_builder *b)
{
    static const struct {
        const char *name, *type;
        bool indexed;
    } own[] = {{"id", "keyword", true}, {"v", "long", false}, {"state", "keyword", true}};
    tw_bson_open_doc(b, TW_STR("_tw"));
    tw_bson_add_bool(b, TW_STR("dynamic"), false);
    tw_bson_open_doc(b, TW_STR("properties"));
    for (size_t i = 0; i < TW_COUNT(own); i++) {
        tw_bson_open_doc(b, tw_str_of(own[i].name));
        tw_bson_add_str(b, TW_STR("type"), tw_str_of(own[i].type));
        if (!own[i].indexed) {
            tw_bson_add_bool(b, TW_STR("index"), false);
        }
        tw_bson_close(b);
    }
    tw_bson_close(b);
    tw_bson_close(b);
}

static void add_mapping(tw_bson_builder *b, const catalog_collection *rules)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, rules->search_mapping); tw_bson_iter_next(&iter);) {
        if (!tw_str_equal(iter.name, TW_STR("properties"))) {
            tw_bson_add_value(b, iter.name, iter.value);
        }
    }
    tw_bson_open_doc(b, TW_STR("properties"));
    tw_bson_add_all(b, tw_bson_get_doc(rules->search_mapping, TW_STR("properties")));
    add_own_properties(b);
    tw_bson_close(b);
}

int64_t es_shards_of(const es_proxy *self, const es_index *index)
{
    return index->rules->search_shards > 0 ? index->rules->search_shards : self->options->shards;
}

int64_t es_replicas_of(const es_proxy *self, const es_index *index)
{
    return index->rules->search_replicas >= 0 ? index->rules->search_replicas
                                              : self->options->replicas;
}

void es_add_index_body(es_proxy *self, tw_bson_builder *b, const es_index *index, const char *alias)
{
    tw_bson_open_doc(b, TW_STR("settings"));
    tw_bson_add_i64(b, TW_STR("number_of_shards"), es_shards_of(self, index));
    tw_bson_add_i64(b, TW_STR("number_of_replicas"), es_replicas_of(self, index));
    tw_bson_add_all(b, index->rules->search_settings);
    if (index->rules->search_lifecycle != NULL && self->flavour->lifecycle != NULL) {
        tw_bson_add_str(b, tw_str_of(self->flavour->lifecycle),
                        tw_str_of(index->rules->search_lifecycle));
    }
    tw_bson_close(b);
    tw_bson_open_doc(b, TW_STR("mappings"));
    add_mapping(b, index->rules);
    tw_bson_close(b);
    if (alias != NULL) {
        tw_bson_open_doc(b, TW_STR("aliases"));
        tw_bson_open_doc(b, tw_str_of(alias));
        tw_bson_close(b);
        tw_bson_close(b);
    }
}

/* ---- every target has its index ---- */
tw_bson es_only_of(const es_reply *reply, tw_str *index)
{
    tw_bson_iter iter;
    tw_bson_iter_init(&iter, reply->body);
    *index = (tw_str){NULL, 0};
    if (!tw_bson_iter_next(&iter)) {
        return (tw_bson){NULL, 0};
    }
    *index = iter.name;
    return tw_bson_value_doc(iter.value);
}

tw_str es_setting_of(const es_reply *reply, const char *name)
{
    tw_str index;
    tw_bson settings = tw_bson_get_doc(es_only_of(reply, &index), TW_STR("settings"));
    return tw_bson_get_str(settings, tw_str_of(name));
}

static void next_index(es_work *work);

static es_index *current(es_work *work)
{
    return work->indices[work->index_at];
}

static void on_let_go(es_work *work, const es_reply *reply)
{
    (void)reply; /* writes that are refused still say so themselves */
    current(work)->ready = true;
    next_index(work);
}

/* A copy that lost its process has left the index without writes. */
static void on_blocks(es_work *work, const es_reply *reply)
{
    bool blocked = tw_str_equal(es_setting_of(reply, "index.blocks.write"), TW_STR("true"));
    if (!blocked || current(work)->busy || reply->status >= 400) {
        on_let_go(work, reply);
        return;
    }
    tw_log(TW_LOG_WARN, tw_actor_name(work->proxy->actor),
           "index %s took no writes: a copy of it did not come to its end", current(work)->alias);
    tw_bson_builder b;
    es_begin(work, &b);
    tw_bson_add_null(&b, TW_STR("index.blocks.write"));
    const es_call call = {.method = "PUT",
                          .path = es_text(work, "/%s/_settings", current(work)->alias),
                          .body = es_json(work, &b),
                          .idempotent = true,
                          .tolerant = true};
    es_call_send(work, &call, on_let_go);
}

static void on_active(es_work *work, const es_reply *reply)
{
    (void)reply; /* one that is not there yet says so itself */
    const es_call call = {
        .method = "GET",
        .path = es_text(work, "/%s/_settings?flat_settings=true", current(work)->alias),
        .idempotent = true,
        .tolerant = true};
    es_call_send(work, &call, on_blocks);
}

/* A new index is there before its shards are. */
static void wait_active(es_work *work)
{
    const es_call call = {.method = "GET",
                          .path = es_text(work,
                                          "/_cluster/health/%s?wait_for_status=yellow&timeout=%dms",
                                          current(work)->alias, ES_ACTIVE_MS),
                          .idempotent = true,
                          .tolerant = true};
    es_call_send(work, &call, on_active);
}

static void on_mapped(es_work *work, const es_reply *reply)
{
    es_index *index = current(work);
    tw_str why = {NULL, 0};
    if (reply->status >= 500 || reply->status == 429 || reply->status == 404) {
        es_fail_reply(work, reply);
        return;
    }
    index->mapping_why[0] = '\0';
    if (reply->status >= 400) { /* the index works on with the mapping that it has */
        (void)(es_error_of(reply->status, tw_bson_get_doc(reply->body, TW_STR("error")), &why) ==
               TW_OK);
        tw_format(index->mapping_why, sizeof index->mapping_why, "%.*s", (int)why.len,
                  why.len == 0 ? "" : why.ptr);
        tw_log(TW_LOG_WARN, tw_actor_name(work->proxy->actor),
               "index %s keeps its mapping, the declared one does not fit: %s; to apply it: "
               "tidewire index reindex %s",
               index->alias, index->mapping_why, index->rules->name);
    }
    wait_active(work);
}

static void put_mapping(es_work *work)
{
    tw_bson_builder b;
    es_begin(work, &b);
    add_mapping(&b, current(work)->rules);
    const es_call call = {.method = "PUT",
                          .path = es_text(work, "/%s/_mapping", current(work)->alias),
                          .body = es_json(work, &b),
                          .idempotent = true,
                          .tolerant = true};
    es_call_send(work, &call, on_mapped);
}

static void on_made(es_work *work, const es_reply *reply)
{
    es_index *index = current(work);
    tw_bson error = tw_bson_get_doc(reply->body, TW_STR("error"));
    tw_str type = tw_bson_get_str(error, TW_STR("type"));
    bool raced = tw_str_equal(type, TW_STR("resource_already_exists_exception"));
    if (reply->status >= 400 && !raced) {
        if (reply->status == 400) {
            tw_str why = {NULL, 0};
            (void)(es_error_of(reply->status, error, &why) == TW_OK);
            char text[TW_ERROR_TEXT_MAX];
            tw_format(text, sizeof text, "The index of \"%s\" cannot be made: %.*s",
                      index->rules->name, (int)why.len, why.len == 0 ? "" : why.ptr);
            tw_log(TW_LOG_ERROR, tw_actor_name(work->proxy->actor), "%s", text);
            es_fail_hint(work, TW_E_BAD_CONFIG, text,
                         "Correct its mapping or settings in the configuration.");
            return;
        }
        es_fail_reply(work, reply);
        return;
    }
    if (!raced) {
        tw_log(TW_LOG_INFO, tw_actor_name(work->proxy->actor), "made index %s for %s", index->alias,
               index->rules->name);
        index->told = false;
    }
    index->mapping_why[0] = '\0';
    wait_active(work);
}

static void make_index(es_work *work)
{
    tw_bson_builder b;
    es_begin(work, &b);
    es_add_index_body(work->proxy, &b, current(work), current(work)->alias);
    const es_call call = {.method = "PUT",
                          .path = es_text(work, "/%s-%06d", current(work)->alias, ES_NUMBER_FIRST),
                          .body = es_json(work, &b),
                          .idempotent = true,
                          .tolerant = true};
    es_call_send(work, &call, on_made);
}

static void on_alias(es_work *work, const es_reply *reply)
{
    if (reply->status == 404) {
        make_index(work);
    } else if (reply->status >= 400) {
        es_fail_reply(work, reply);
    } else {
        put_mapping(work);
    }
}

static void next_index(es_work *work)
{
    while (work->index_at < work->indices_count && current(work)->ready) {
        work->index_at++;
    }
    if (work->index_at == work->indices_count) {
        work->ensuring = false;
        work->ready(work);
        return;
    }
    const es_call call = {.method = "GET",
                          .path = es_text(work, "/%s/_alias", current(work)->alias),
                          .idempotent = true,
                          .tolerant = true};
    es_call_send(work, &call, on_alias);
}

static void on_flavour(es_work *work, const es_reply *reply)
{
    es_flavour_found(work->proxy, reply);
    if (work->proxy->flavour == NULL) {
        es_fail_hint(work, TW_E_SEARCH_UNAVAILABLE, "What answers is no engine that is known.",
                     "Elasticsearch 7, 8, 9 and OpenSearch 2 are.");
        return;
    }
    next_index(work);
}

void es_need_indices(es_work *work, es_step ready)
{
    work->ready = ready;
    work->ensuring = true;
    work->index_at = 0;
    if (work->proxy->flavour != NULL) {
        next_index(work);
        return;
    }
    const es_call call = {.method = "GET", .path = "/", .idempotent = true, .tolerant = true};
    es_call_send(work, &call, on_flavour);
}

/* ---- fields ---- */
static void add_field_rows(es_work *work, tw_bson_builder *b, tw_bson properties, const char *above,
                           int depth)
{
    tw_bson_iter iter;
    for (tw_bson_iter_init(&iter, properties); tw_bson_iter_next(&iter);) {
        tw_bson field = tw_bson_value_doc(iter.value);
        tw_bson inner = tw_bson_get_doc(field, TW_STR("properties"));
        tw_bson multi = tw_bson_get_doc(field, TW_STR("fields"));
        tw_str type = tw_bson_get_str(field, TW_STR("type"));
        if (depth == 0 && tw_str_equal(iter.name, TW_STR("_tw"))) {
            continue;
        }
        const char *name = es_text(work, "%s%.*s", above, (int)iter.name.len, iter.name.ptr);
        if (type.ptr != NULL) {
            tw_bson meta = tw_bson_get_doc(field, TW_STR("meta"));
            tw_bson_open_doc(b, tw_str_of(name));
            tw_bson_add_str(b, TW_STR("type"), type);
            tw_bson_add_bool(b, TW_STR("indexed"),
                             tw_bson_get_bool_or(field, TW_STR("index"), true));
            tw_bson_add_bool(b, TW_STR("stored"),
                             tw_bson_get_bool_or(field, TW_STR("store"), false));
            tw_bson_add_bool(b, TW_STR("list"),
                             tw_str_equal(tw_bson_get_str(meta, TW_STR("list")), TW_STR("true")));
            tw_bson_close(b);
        }
        if (depth < TW_DEPTH_CLIENT_MAX && (inner.len > 0 || multi.len > 0)) {
            const char *below = es_text(work, "%s.", name);
            add_field_rows(work, b, inner, below, depth + 1);
            add_field_rows(work, b, multi, below, depth + 1);
        }
    }
}

static void on_fields(es_work *work, const es_reply *reply)
{
    tw_str name;
    tw_bson mappings = tw_bson_get_doc(es_only_of(reply, &name), TW_STR("mappings"));
    tw_bson_builder b;
    es_result_begin(work, &b);
    tw_bson_open_doc(&b, TW_STR("fields"));
    add_field_rows(work, &b, tw_bson_get_doc(mappings, TW_STR("properties")), "", 0);
    tw_bson_close(&b);
    es_answer_result(work, &b);
}

void es_fields(es_work *work)
{
    const es_call call = {.method = "GET", .path = es_path(work, "/_mapping"), .idempotent = true};
    es_call_send(work, &call, on_fields);
}

/* ---- commit ---- */
static void on_committed(es_work *work, const es_reply *reply)
{
    tw_bson shards = tw_bson_get_doc(reply->body, TW_STR("_shards"));
    tw_bson_builder b;
    es_result_begin(work, &b);
    tw_bson_add_bool(&b, TW_STR("committed"), true);
    tw_bson_add_i64(&b, TW_STR("shards"), tw_bson_get_i64_or(shards, TW_STR("successful"), 0));
    es_answer_result(work, &b);
}

static void on_flushed(es_work *work, const es_reply *reply)
{
    (void)reply;
    const es_call call = {.method = "POST", .path = es_path(work, "/_refresh"), .idempotent = true};
    es_call_send(work, &call, on_committed);
}

void es_commit(es_work *work)
{
    if (es_is_dry(work)) {
        tw_bson_builder b;
        es_result_begin(work, &b);
        tw_bson_add_bool(&b, TW_STR("dry_run"), true);
        tw_bson_add_bool(&b, TW_STR("committed"), false);
        es_answer_result(work, &b);
        return;
    }
    const es_call call = {.method = "POST", .path = es_path(work, "/_flush"), .idempotent = true};
    es_call_send(work, &call, on_flushed);
}
