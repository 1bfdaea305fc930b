/* search_query_fuzz.c - any query and any aggregation over any document: {"q":…,"a":…,"d":…}.
 *
 * Nothing crashes; what is refused says why; a document is found by the same query before and after
 * it was indexed, and its terms are taken out as they were put in. */
#include "protocol/json.h"
#include "protocol/limits.h"

#include "broker/search_aggs.h"
#include "broker/search_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold_aggs(tw_arena *arena, tw_bson aggs, const search_mapping *mapping, tw_bson doc)
{
    broker_why why = {.text = ""};
    search_aggs *made = NULL;
    tw_buf out;
    tw_bson_builder b;
    tw_buf_init(&out, 4 << 20);
    tw_bson_begin(&b, &out);
    if (search_aggs_compile(arena, aggs, &mapping, 1, &made, &why) == TW_OK &&
        search_aggs_take(made, doc, TW_STR("id")) == TW_OK &&
        search_aggs_take(made, doc, TW_STR("id")) == TW_OK) {
        (void)(search_aggs_write(made, &b) == TW_OK);
        tw_bson built = tw_bson_end(&b);
        TW_ASSERT(out.err != TW_OK ||
                  tw_bson_validate(built.ptr, built.len, TW_DEPTH_MAX, &built) == TW_OK);
    }
    tw_buf_fini(&out);
}

static void hold_query(tw_arena *arena, tw_bson_value asked, const search_mapping *mapping,
                       tw_bson doc)
{
    broker_why why = {.text = ""};
    search_query *query = NULL;
    tw_buf sql;
    tw_err err = search_query_compile(arena, asked, mapping, &query, &why);
    if (err != TW_OK) {
        TW_ASSERT(err == TW_E_NO_MEMORY || err == TW_E_TOO_BIG || err == TW_E_TOO_COSTLY ||
                  why.text[0] != '\0');
        return;
    }
    double first;
    double second;
    bool found = search_query_match(query, doc, TW_STR("id"), &first);
    TW_ASSERT(search_query_match(query, doc, TW_STR("id"), &second) == found);
    tw_buf_init(&sql, 1 << 20);
    if (mapping != NULL) {
        (void)search_query_sql(query, &sql);
    }
    (void)search_query_asks(query, TW_STR("t"), true, TW_STR("word"));
    tw_buf_fini(&sql);
}

static void hold(tw_arena *arena, tw_bson all)
{
    tw_bson doc = tw_bson_get_doc(all, TW_STR("d"));
    search_mapping mapping;
    tw_buf in;
    tw_buf out;
    tw_bson_builder b;
    broker_why why = {.text = ""};
    if (search_mapping_init(&mapping, arena, tw_bson_get_doc(all, TW_STR("m"))) != TW_OK) {
        return;
    }
    (void)(search_mapping_learn(&mapping, doc) == TW_OK);
    for (size_t i = 0; i < mapping.count; i++) {
        mapping.at[i].number = i + 1;
    }
    tw_buf_init(&in, 1 << 20);
    tw_buf_init(&out, 1 << 20);
    search_terms_add(&mapping, doc, 1, &in);
    search_terms_add(&mapping, doc, -1, &out);
    TW_ASSERT(tw_str_equal(tw_buf_str(&in), tw_buf_str(&out)));
    tw_buf_clear(&out);
    tw_bson_begin(&b, &out);
    tw_bson_value asked = tw_bson_get(all, TW_STR("q"));
    if (asked.type != 0 && search_body_add_query(&b, TW_STR("q"), asked, &why) == TW_OK) {
        tw_bson rebuilt = tw_arena_bson(arena, tw_bson_end(&b));
        asked = out.err == TW_OK ? tw_bson_get(rebuilt, TW_STR("q")) : (tw_bson_value){0};
        hold_query(arena, asked, &mapping, doc);
        hold_query(arena, asked, NULL, doc);
    }
    hold_aggs(arena, tw_bson_get_doc(all, TW_STR("a")), &mapping, doc);
    tw_buf_fini(&in);
    tw_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tw_arena arena;
    tw_bson all;
    if (size > TW_SEARCH_BODY_MAX) {
        return 0;
    }
    tw_arena_init(&arena, 64 << 20);
    if (tw_json_read(&arena, (tw_str){(const char *)data, size}, TW_DEPTH_CLIENT_MAX, &all, NULL) ==
        TW_OK) {
        hold(&arena, all);
    }
    tw_arena_fini(&arena);
    return 0;
}
