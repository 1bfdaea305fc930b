/* topic_query_test.c - subscribe to canonical form, meanings, and the bytes that are told. */
#include "broker/topic_query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "tests/support/bson_text.h"

static tw_arena arena;
static catalog known;
static catalog_collection declared[5];

static int setup(void **state)
{
    static const char *const fields[] = {"name"};
    (void)state;
    tw_arena_init(&arena, 64 << 20);
    catalog_report_preset("main", declared);
    declared[3] = catalog_undeclared;
    declared[3].database = "main";
    declared[3].name = "secret";
    declared[3].read_denied = true;
    declared[4] = catalog_undeclared;
    declared[4].database = "crm";
    declared[4].name = "person";
    declared[4].fields = fields;
    declared[4].fields_count = 1;
    declared[4].filter = bson_text(&arena, "{'alive':true}");
    known =
        (catalog){.magic = CATALOG_MAGIC, .at = declared, .count = 5, .default_database = "main"};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tw_arena_fini(&arena);
    return 0;
}

static tw_err read(const char *subscribe, tw_bson *out, broker_why *why)
{
    *why = (broker_why){0};
    return topic_query_of_subscribe(&known, NULL, &arena, bson_text(&arena, subscribe), out, why);
}

static const char *canonical(const char *subscribe)
{
    tw_bson out;
    broker_why why;
    tw_err err = read(subscribe, &out, &why);
    return err == TW_OK ? bson_shown(&arena, out) : tw_arena_format(&arena, "%s", why.text);
}

static void test_topic_query_equal_asks_are_equal_bytes(void **state)
{
    (void)state;
    assert_string_equal(canonical("{'type':'subscribe','mux_id':9,'project':7.0,'entries':'*'}"),
                        canonical("{'project_id':7,'since':[[0,1]],'entries':'*','syncid':'x'}"));
    assert_string_equal(canonical("{'b':'*','a':'*'}"), canonical("{'collections':['a','b']}"));
    assert_string_equal(
        canonical("{'collections':{'person':{'db':'crm','filter':{'a':1}}},'archived':'include'}"),
        "{\"v\":1,\"a\":true,\"c\":[{\"d\":\"crm\",\"n\":\"person\",\"f\":{\"$and\":[{\"alive\":"
        "true},"
        "{\"a\":1}]},\"p\":[\"name\"]}]}");
    assert_string_equal(canonical("{'project_id':7,'threads':{'fields':{'a':1}}}"),
                        "{\"v\":1,\"a\":false,\"c\":[{\"d\":\"main\",\"n\":\"threads\",\"s\":7,"
                        "\"f\":{\"proj_id\":7},\"p\":[\"a\"]}]}");
    tw_bson out;
    broker_why why;
    char name[17];
    assert_int_equal(read("{'a':'*'}", &out, &why), TW_OK);
    topic_query_name(out, name);
    assert_int_equal(strlen(name), 16);
}

static void test_topic_query_bad_asks_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *subscribe;
        tw_err err;
    } samples[] = {
        {"{'mux_id':1}", TW_E_BAD_MESSAGE},
        {"{'a':'x'}", TW_E_BAD_MESSAGE},
        {"{'a':{'nosuch':1}}", TW_E_BAD_MESSAGE},
        {"{'a':{'filter':{'x':{'$foo':1}}}}", TW_E_BAD_FILTER},
        {"{'a':{'fields':[1]}}", TW_E_BAD_MESSAGE},
        {"{'a':{'fields':{'x':0}}}", TW_E_BAD_MESSAGE},
        {"{'secret':'*'}", TW_E_FORBIDDEN},
        {"{'a':'*','collections':['a']}", TW_E_BAD_MESSAGE},
        {"{'a$b':'*'}", TW_E_BAD_MESSAGE},
        {"{'a':'*','archived':true}", TW_E_BAD_MESSAGE},
        {"{'entries':'*','project_id':[1]}", TW_E_BAD_MESSAGE},
        {"{'collections':5}", TW_E_BAD_MESSAGE},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        tw_bson out;
        broker_why why;
        if (read(samples[i].subscribe, &out, &why) != samples[i].err || why.text[0] == '\0') {
            fail_msg("%s: %s", samples[i].subscribe, why.text);
        }
    }
    known.strict = true;
    tw_bson out;
    broker_why why;
    assert_int_equal(read("{'undeclared':'*'}", &out, &why), TW_E_FORBIDDEN);
    known.strict = false;
    topic_query *asked = NULL;
    assert_int_equal(topic_query_compile(&known, bson_text(&arena, "{'v':2}"), &asked, &why),
                     TW_E_BAD_QUERY);
    assert_null(asked);
}

static topic_query *compiled(const char *subscribe)
{
    tw_bson out;
    broker_why why;
    topic_query *asked = NULL;
    assert_int_equal(read(subscribe, &out, &why), TW_OK);
    assert_int_equal(topic_query_compile(&known, out, &asked, &why), TW_OK);
    return asked;
}

static void test_topic_query_meanings(void **state)
{
    (void)state;
    topic_query *asked = compiled("{'entries':{'filter':{'a':1}}}");
    tw_bson in = bson_text(&arena, "{'a':1}");
    tw_bson not_in = bson_text(&arena, "{'a':2}");
    tw_bson archived = bson_text(&arena, "{'a':1,'archivetime':[[1,9]]}");
    tw_bson none = {0};
    tw_position at = {1, 5};
    int part = topic_query_part_of(asked, TW_STR("main"), TW_STR("entries"));
    assert_int_equal(part, 0);
    assert_int_equal(topic_query_part_of(asked, TW_STR("main"), TW_STR("x")), -1);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_PUT, in, none, at, true), TW_MEANS_PUT);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_PUT, not_in, in, at, true),
                     TW_MEANS_LEFT);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_PUT, not_in, in, at, false), 0);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_PUT, not_in, not_in, at, true), 0);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_DELETE, none, in, at, true),
                     TW_MEANS_DELETED);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_DELETE, none, not_in, at, true), 0);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_DROP, none, none, at, true),
                     TW_MEANS_DROP);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_PUT, archived, none, at, false), 0);
    assert_int_equal(topic_query_meaning(asked, 0, TW_ROW_PUT, archived, none, at, true),
                     TW_MEANS_PUT);
    topic_query_free(&asked);
}

static const char *rendered(topic_query *asked, unsigned meaning, uint64_t flags, const char *doc)
{
    static const uint8_t key[] = {TW_BSON_STRING, 2, 0, 0, 0, 'k', 0};
    topic_change change = {.at = {1, 5}, .flags = flags, .key = {key, sizeof key}, .version = 3};
    change.doc = bson_text(&arena, doc);
    tw_buf out;
    tw_buf_init(&out, 1 << 20);
    topic_query_render(&known, &asked->parts[0], meaning, &change, &out);
    assert_int_equal(out.err, TW_OK);
    const char *text = tw_arena_format(&arena, "%.*s", (int)out.len, out.ptr);
    tw_buf_fini(&out);
    return text;
}

/* ---- rights ---- */

static rights *of_ada(const char *filter, const char *search_filter)
{
    rights *made = NULL;
    const rights_rule rules[] = {
        {.role = "*", .collection = "*", .verbs = RIGHTS_READ, .filter = bson_text(&arena, filter)},
        {.role = "*",
         .collection = "*",
         .verbs = RIGHTS_SEARCH,
         .filter = bson_text(&arena, search_filter)}};
    const rights_table table = {.at = rules, .count = 2, .default_database = "main"};
    tw_bson claims = bson_text(&arena, "{'sub':'ada'}");
    assert_int_equal(rights_new(&made, &table, claims, TW_STR("roles")), TW_OK);
    return made;
}

static tw_bson asked_under(const rights *whose, const char *subscribe)
{
    tw_bson out;
    broker_why why = {0};
    assert_int_equal(
        topic_query_of_subscribe(&known, whose, &arena, bson_text(&arena, subscribe), &out, &why),
        TW_OK);
    return out;
}

static void test_topic_query_tells_apart_what_the_rights_are(void **state)
{
    (void)state;
    rights *ada = of_ada("{'owner':'$claims.sub'}", "{'open':true}");
    static const struct {
        const char *subscribe;
        const char *form;
    } samples[] = {
        {"{'a':'*'}", "\"f\":{\"owner\":\"ada\"},\"r\":-1"},
        {"{'a':{'filter':{'n':1}}}", "\"f\":{\"$and\":[{\"owner\":\"ada\"},{\"n\":1}]},\"r\":1"},
        {"{'entries':{'filter':{'n':1}},'project_id':7}",
         "\"f\":{\"$and\":[{\"proj_id\":7},{\"owner\":\"ada\"},{\"n\":1}]},\"r\":2"},
        {"{'a':{'search':{'query':'x'},'filter':{'n':1}}}",
         "\"f\":{\"$and\":[{\"owner\":\"ada\"},{\"open\":true},{\"n\":1}]},\"r\":3"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        const char *shown = bson_shown(&arena, asked_under(ada, samples[i].subscribe));
        if (strstr(shown, samples[i].form) == NULL) {
            fail_msg("%s: %s", samples[i].subscribe, shown);
        }
        shown = bson_shown(&arena, asked_under(NULL, samples[i].subscribe));
        assert_null(strstr(shown, "\"r\":"));
    }
    char of_hers[17], of_all[17];
    topic_query_name(asked_under(ada, "{'a':'*'}"), of_hers);
    topic_query_name(asked_under(NULL, "{'a':{'filter':{'owner':'ada'}}}"), of_all);
    assert_string_not_equal(of_hers, of_all);
    tw_bson watch;
    broker_why why;
    assert_int_equal(
        topic_query_of_watch(&known, ada, &arena, bson_text(&arena, "{}"), &watch, &why), TW_OK);
    assert_null(strstr(bson_shown(&arena, watch), "\"r\":")); /* nothing is told of it there */
    static const char *const wrong[] = {
        "{'v':1,'c':[{'d':'main','n':'a','f':{'x':1},'r':1}]}",
        "{'v':1,'c':[{'d':'main','n':'a','f':{'$and':[{'x':1},{'y':1}]},'r':4}]}",
        "{'v':1,'c':[{'d':'main','n':'a','f':{'$and':[{'x':1},{'y':1}]},'r':-2}]}",
        "{'v':1,'c':[{'d':'main','n':'a','r':1}]}"};
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        topic_query *asked = NULL;
        assert_int_equal(topic_query_compile(&known, bson_text(&arena, wrong[i]), &asked, &why),
                         TW_E_BAD_QUERY);
        assert_null(asked);
    }
    rights_drop(&ada);
}

static void test_topic_query_revoked_is_what_the_rights_do_not_show(void **state)
{
    (void)state;
    static const struct {
        const char *subscribe;
        const char *before;
        const char *after; /* NULL: removed */
        unsigned means;
    } samples[] = {
        {"{'a':'*'}", "{'owner':'ada'}", "{'owner':'bob'}", TW_MEANS_REVOKED},
        {"{'a':'*'}", "{'owner':'ada'}", NULL, TW_MEANS_DELETED},
        {"{'a':'*'}", "{'owner':'bob'}", "{'owner':'eve'}", 0},
        {"{'a':'*'}", "{'owner':'bob'}", "{'owner':'ada'}", TW_MEANS_PUT},
        {"{'a':{'filter':{'n':1}}}", "{'owner':'ada','n':1}", "{'owner':'ada','n':2}",
         TW_MEANS_LEFT},
        {"{'a':{'filter':{'n':1}}}", "{'owner':'ada','n':1}", "{'owner':'bob','n':1}",
         TW_MEANS_REVOKED},
        /* n of a version that is not hers is not told either */
        {"{'a':{'filter':{'n':1}}}", "{'owner':'ada','n':1}", "{'owner':'bob','n':2}",
         TW_MEANS_REVOKED},
        {"{'a':{'filter':{'n':1}}}", "{'owner':'ada','n':3}", "{'owner':'bob','n':1}", 0},
        {"{'entries':'*','project_id':7}", "{'owner':'ada','proj_id':7}",
         "{'owner':'ada','proj_id':8}", TW_MEANS_LEFT},
        {"{'entries':'*','project_id':7}", "{'owner':'ada','proj_id':7}",
         "{'owner':'bob','proj_id':7}", TW_MEANS_REVOKED},
        {"{'a':{'search':{'query':'t:x'}}}", "{'owner':'ada','open':true,'t':'x'}",
         "{'owner':'ada','open':true,'t':'y'}", TW_MEANS_LEFT},
        {"{'a':{'search':{'query':'t:x'}}}", "{'owner':'ada','open':true,'t':'x'}",
         "{'owner':'ada','open':false,'t':'x'}", TW_MEANS_REVOKED},
    };
    rights *ada = of_ada("{'owner':'$claims.sub'}", "{'open':true}");
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        topic_query *asked = NULL;
        broker_why why = {0};
        tw_bson canonical_form = asked_under(ada, samples[i].subscribe);
        assert_int_equal(topic_query_compile(&known, canonical_form, &asked, &why), TW_OK);
        tw_bson before = bson_text(&arena, samples[i].before);
        tw_bson after =
            samples[i].after == NULL ? (tw_bson){0} : bson_text(&arena, samples[i].after);
        uint64_t flags = after.len == 0 ? TW_ROW_DELETE : TW_ROW_PUT;
        tw_position at = {1, 5};
        unsigned means = topic_query_meaning(asked, 0, flags, after, before, at, true);
        if (means != samples[i].means) {
            fail_msg("sample %zu: %u, not %u", i, means, samples[i].means);
        }
        bool in_snapshot = samples[i].means == TW_MEANS_PUT;
        assert_int_equal(topic_query_meaning(asked, 0, flags, after, before, at, false),
                         in_snapshot ? TW_MEANS_PUT : 0);
        topic_query_free(&asked);
    }
    rights_drop(&ada);
}

static bool tell_alike(const topic_query_part *a, const topic_query_part *b)
{
    tw_buf left, right;
    tw_buf_init(&left, 65536);
    tw_buf_init(&right, 65536);
    topic_query_name_rendering(a, &left);
    topic_query_name_rendering(b, &right);
    bool alike = tw_str_equal(tw_buf_str(&left), tw_buf_str(&right));
    tw_buf_fini(&left);
    tw_buf_fini(&right);
    return alike;
}

static void test_topic_query_renderings(void **state)
{
    (void)state;
    topic_query *flat = compiled("{'entries':'*'}");
    topic_query *nested = compiled("{'collections':{'person':{'db':'crm'}}}");
    assert_true(tw_str_equal(topic_query_type(&flat->parts[0], TW_MEANS_PUT), TW_STR("entry")));
    assert_true(tw_str_equal(topic_query_type(&nested->parts[0], TW_MEANS_PUT), TW_STR("record")));
    assert_string_equal(
        rendered(flat, TW_MEANS_PUT, TW_ROW_PUT | TW_ROW_LAST,
                 "{'type':'x','srv_id':2,'proj_id':7,'_content':[1,2],'archivetime':[[1,1]]}"),
        "\"srv_id\":1,\"seqno\":5,\"edited_after_archive\":true,\"proj_id\":7,\"archivetime\":[[1,"
        "1]]}");
    assert_string_equal(
        rendered(nested, TW_MEANS_PUT, TW_ROW_PUT | TW_ROW_MULTI, "{'x':1,'name':'n','_id':'k'}"),
        "\"collection\":\"crm.person\",\"op\":\"put\",\"key\":\"k\",\"version\":3,"
        "\"srv_id\":1,\"seqno\":5,\"last\":false,\"doc\":{\"_id\":\"k\","
        "\"name\":\"n\"}}");
    assert_string_equal(rendered(flat, TW_MEANS_LEFT, TW_ROW_PUT, "{}"),
                        "\"collection\":\"entries\",\"key\":\"k\",\"why\":\"left\",\"srv_id\":1,"
                        "\"seqno\":5}");
    assert_string_equal(rendered(nested, TW_MEANS_REVOKED, TW_ROW_PUT, "{}"),
                        "\"collection\":\"crm.person\",\"key\":\"k\",\"why\":\"revoked\","
                        "\"srv_id\":1,\"seqno\":5}");
    assert_string_equal(rendered(flat, TW_MEANS_DROP, TW_ROW_DROP, "{}"),
                        "\"collection\":\"entries\",\"srv_id\":1,\"seqno\":5}");
    assert_true(tell_alike(&flat->parts[0], &flat->parts[0]));
    assert_false(tell_alike(&flat->parts[0], &nested->parts[0]));
    topic_query_free(&flat);
    topic_query_free(&nested);
}

static void test_topic_query_projection_is_mongodbs(void **state)
{
    (void)state;
    projection told;
    tw_buf out;
    tw_buf_init(&out, 1 << 20);
    assert_int_equal(projection_init(&told, bson_text(&arena, "{'a.b':1,'c':true}")), TW_OK);
    projection_apply(&told, TW_STR("_id"),
                     bson_text(&arena, "{'c':3,'x':1,'a':[{'b':1,'d':2},5,[{'b':2}]],'_id':9}"),
                     &out);
    assert_string_equal(bson_shown(&arena, (tw_bson){(const uint8_t *)out.ptr, out.len}),
                        "{\"_id\":9,\"c\":3,\"a\":[{\"b\":1},[{\"b\":2}]]}");
    tw_buf_fini(&out);
    assert_int_equal(projection_init(&told, bson_text(&arena, "{'a':0}")), TW_E_BAD_QUERY);
    assert_int_equal(projection_init(&told, bson_text(&arena, "{'a..b':1}")), TW_E_BAD_QUERY);
}

static tw_err watch(const char *message, tw_bson *out, broker_why *why)
{
    *why = (broker_why){0};
    return topic_query_of_watch(&known, NULL, &arena, bson_text(&arena, message), out, why);
}

static topic_query *watched(const char *message)
{
    tw_bson out;
    broker_why why;
    topic_query *asked = NULL;
    assert_int_equal(watch(message, &out, &why), TW_OK);
    assert_int_equal(topic_query_compile(&known, out, &asked, &why), TW_OK);
    return asked;
}

static void test_topic_query_watch_names_what_may_be_read(void **state)
{
    (void)state;
    static const struct {
        const char *message;
        tw_err err;
    } samples[] = {
        {"{'collections':'a'}", TW_E_BAD_MESSAGE},
        {"{'collections':[]}", TW_E_BAD_MESSAGE},
        {"{'collections':[1]}", TW_E_BAD_MESSAGE},
        {"{'collections':['a$']}", TW_E_BAD_MESSAGE},
        {"{'collections':[{'db':'crm'}]}", TW_E_BAD_MESSAGE},
        {"{'collections':[{'db':1,'coll':'a'}]}", TW_E_BAD_MESSAGE},
        {"{'collections':['secret']}", TW_E_FORBIDDEN},
    };
    tw_bson out;
    broker_why why;
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        if (watch(samples[i].message, &out, &why) != samples[i].err || why.text[0] == '\0') {
            fail_msg("%s: %s", samples[i].message, why.text);
        }
    }
    assert_int_equal(
        watch("{'collections':['b',{'db':'crm','coll':'person'},'a','b']}", &out, &why), TW_OK);
    assert_string_equal(bson_shown(&arena, out),
                        "{\"v\":1,\"k\":\"changes\",\"any\":false,\"c\":[{\"d\":\"crm\",\"n\":"
                        "\"person\",\"f\":{\"alive\":true}},{\"d\":\"main\",\"n\":\"a\"},"
                        "{\"d\":\"main\",\"n\":\"b\"}]}");
    topic_query *all = watched("{'reqID':1,'since':'now'}");
    int person = topic_query_part_of(all, TW_STR("crm"), TW_STR("person"));
    int later = topic_query_part_of(all, TW_STR("main"), TW_STR("later"));
    assert_true(person >= 0 && !all->parts[person].any);
    assert_true(later >= 0 && all->parts[later].any);
    assert_int_equal(topic_query_part_of(all, TW_STR("other"), TW_STR("x")), later);
    assert_int_equal(topic_query_part_of(all, TW_STR("main"), TW_STR("secret")), -1);
    known.strict = true;
    assert_int_equal(topic_query_part_of(all, TW_STR("main"), TW_STR("later")), -1);
    known.strict = false;
    topic_query_free(&all);
    static const char *const wrong[] = {"{'v':1,'k':'x','c':[{'d':'main','n':'a'}]}",
                                        "{'v':1,'k':'changes'}",
                                        "{'v':1,'k':'changes','any':true,'c':[1]}"};
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        assert_int_equal(topic_query_compile(&known, bson_text(&arena, wrong[i]), &all, &why),
                         TW_E_BAD_QUERY);
        assert_null(all);
    }
}

static const char *event_of(const topic_query_part *part, unsigned meaning, const char *doc,
                            const char *old, bool told)
{
    static const uint8_t key[] = {TW_BSON_STRING, 2, 0, 0, 0, 'k', 0};
    topic_change change = {.at = {1, 5},
                           .key = {key, sizeof key},
                           .db = TW_STR("crm"),
                           .coll = TW_STR("person"),
                           .prev = old == NULL ? 0 : 4,
                           .old_told = told,
                           .origin = told ? TW_STR("req") : TW_STR("")};
    change.doc = meaning == TW_MEANS_PUT ? bson_text(&arena, doc) : (tw_bson){0};
    change.old = old == NULL || *old == '\0' ? (tw_bson){0} : bson_text(&arena, old);
    tw_buf out;
    tw_buf_init(&out, 1 << 22);
    topic_query_render(&known, part, meaning, &change, &out);
    assert_int_equal(out.err, TW_OK);
    const char *text = tw_arena_format(&arena, "%.*s", (int)out.len, out.ptr);
    tw_buf_fini(&out);
    return text;
}

#define NS "\"ns\":{\"db\":\"crm\",\"coll\":\"person\"}"
#define ID ",\"documentKey\":{\"_id\":\"k\"}"
#define AT ",\"srv_id\":1,\"seqno\":5"

static void test_topic_query_changes_are_told_as_mongodb_does(void **state)
{
    (void)state;
    topic_query *asked = watched("{'collections':[{'db':'crm','coll':'person'}]}");
    topic_query *all = watched("{}");
    const topic_query_part *part = &asked->parts[0];
    const char *doc = "{'_id':'k','alive':true,'a':1,'b':{'c':2},'_content':5}";
    assert_int_equal(topic_query_type(part, TW_MEANS_PUT).len, 0);
    assert_string_equal(event_of(part, TW_MEANS_PUT, doc, NULL, true),
                        "\"op\":\"insert\"," NS ID
                        ",\"fullDocument\":{\"_id\":\"k\",\"alive\":true,"
                        "\"a\":1,\"b\":{\"c\":2}}" AT ",\"origin\":\"req\"}");
    assert_string_equal(
        event_of(part, TW_MEANS_PUT, doc,
                 "{'_id':'k','alive':true,'a':1.0,'b':{'c':2},'gone':1,'_content':6}", true),
        "\"op\":\"update\"," NS ID ",\"fullDocument\":{\"_id\":\"k\",\"alive\":true,\"a\":1,"
        "\"b\":{\"c\":2}},\"updateDescription\":{\"updatedFields\":{\"a\":1},"
        "\"removedFields\":[\"gone\"]}" AT ",\"origin\":\"req\"}");
    /* hidden until now by the collection's filter; a tombstone before; not told before */
    assert_non_null(strstr(event_of(part, TW_MEANS_PUT, doc, "{'_id':'k'}", true), "\"insert\""));
    assert_non_null(strstr(event_of(part, TW_MEANS_PUT, doc, "", true), "\"op\":\"insert\""));
    const char *replaced = event_of(part, TW_MEANS_PUT, doc, doc, false);
    assert_non_null(strstr(replaced, "\"op\":\"replace\""));
    assert_null(strstr(replaced, "updateDescription"));
    assert_null(strstr(replaced, "origin"));
    char *large = tw_alloc(1200001);
    memset(large, 'x', 1200000);
    large[1200000] = '\0';
    doc = tw_arena_format(&arena, "{'_id':'k','alive':true,'a':'%s'}", large);
    assert_non_null(strstr(event_of(part, TW_MEANS_PUT, doc, "{'_id':'k','alive':true}", true),
                           "\"op\":\"replace\""));
    tw_free(large);
    assert_string_equal(event_of(part, TW_MEANS_DELETED, NULL, "{}", true),
                        "\"op\":\"delete\"," NS ID AT ",\"origin\":\"req\"}");
    assert_string_equal(event_of(part, TW_MEANS_LEFT, NULL, "{}", true),
                        event_of(part, TW_MEANS_DELETED, NULL, "{}", true));
    assert_string_equal(event_of(part, TW_MEANS_REVOKED, NULL, "{}", true),
                        event_of(part, TW_MEANS_DELETED, NULL, "{}", true));
    assert_string_equal(event_of(part, TW_MEANS_DROP, NULL, NULL, false),
                        "\"op\":\"drop\"," NS AT "}");
    const topic_query_part *any = &all->parts[all->parts_count - 1];
    assert_string_equal(event_of(any, TW_MEANS_DROP, NULL, NULL, false),
                        "\"op\":\"drop\"," NS AT "}");
    topic_query *records = compiled("{'collections':{'person':{'db':'crm'}}}");
    assert_false(tell_alike(part, &records->parts[0]));
    topic_query_free(&records);
    topic_query_free(&asked);
    topic_query_free(&all);
}

static topic_query *listened(const char *db)
{
    tw_bson out;
    broker_why why = {0};
    topic_query *asked = NULL;
    assert_int_equal(topic_query_of_database(&known, NULL, &arena, tw_str_of(db), &out, &why),
                     TW_OK);
    assert_int_equal(topic_query_compile(&known, out, &asked, &why), TW_OK);
    return asked;
}

static void test_topic_query_database_is_one_stream_of_its_collections(void **state)
{
    (void)state;
    topic_query *crm = listened("crm");
    int person = topic_query_part_of(crm, TW_STR("crm"), TW_STR("person"));
    int later = topic_query_part_of(crm, TW_STR("crm"), TW_STR("later"));
    assert_true(person >= 0 && !crm->parts[person].any);
    assert_true(later > person && crm->parts[later].any);
    assert_int_equal(topic_query_part_of(crm, TW_STR("main"), TW_STR("later")), -1);
    topic_query_free(&crm);
    /* a declared one is closed: nothing but its schema */
    static const catalog_database declared_crm = {"crm", 12, false};
    known.databases = &declared_crm;
    known.databases_count = 1;
    crm = listened("crm");
    assert_int_equal(topic_query_part_of(crm, TW_STR("crm"), TW_STR("person")), 0);
    assert_int_equal(topic_query_part_of(crm, TW_STR("crm"), TW_STR("later")), -1);
    topic_query_free(&crm);
    known.databases_count = 0;
    tw_bson out;
    broker_why why = {0};
    tw_str bad = TW_STR("$x");
    assert_int_equal(topic_query_of_database(&known, NULL, &arena, bad, &out, &why),
                     TW_E_BAD_MESSAGE);
    known.strict = true;
    bad = TW_STR("nowhere");
    assert_int_equal(topic_query_of_database(&known, NULL, &arena, bad, &out, &why),
                     TW_E_FORBIDDEN);
    known.strict = false;
    static const char *const wrong[] = {
        "{'v':1,'k':'events','any':true,'c':[]}", "{'v':1,'k':'events','db':'$','any':true,'c':[]}",
        "{'v':1,'k':'events','db':7,'any':true,'c':[]}", "{'v':1,'k':'events','db':'crm','c':[1]}"};
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        assert_int_equal(topic_query_compile(&known, bson_text(&arena, wrong[i]), &crm, &why),
                         TW_E_BAD_QUERY);
        assert_null(crm);
    }
}

#define DB "\"db\":\"crm\""

static void test_topic_query_events_are_those_of_the_realtime_database(void **state)
{
    (void)state;
    topic_query *crm = listened("crm");
    const topic_query_part *part = &crm->parts[0];
    const char *doc = "{'_id':'k','alive':true,'a':1,'_content':5}";
    assert_int_equal(topic_query_type(part, TW_MEANS_PUT).len, 0);
    static const char record[] = ",\"key\":\"k\",\"version\":0,\"record\":{\"_id\":\"k\","
                                 "\"alive\":true,\"a\":1}" AT;
    const char *added = event_of(part, TW_MEANS_PUT, doc, NULL, true);
    assert_memory_equal(added, "\"event\":\"DB_RECORD_ADD\"," DB, 34);
    assert_non_null(strstr(added, record));
    assert_non_null(strstr(added, ",\"origin\":\"req\"}"));
    /* what was deleted before, or hidden by the filter, is added; history is put */
    static const struct {
        const char *old;
        bool told;
        const char *event;
    } samples[] = {
        {"", true, "DB_RECORD_ADD"},
        {"{'_id':'k'}", true, "DB_RECORD_ADD"},
        {"{'_id':'k','alive':true}", true, "DB_RECORD_PUT"},
        {"{'_id':'k','alive':true}", false, "DB_RECORD_PUT"},
        {NULL, false, "DB_RECORD_PUT"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        const char *told = event_of(part, TW_MEANS_PUT, doc, samples[i].old, samples[i].told);
        assert_non_null(strstr(told, samples[i].event));
    }
    const char *gone = event_of(part, TW_MEANS_DELETED, NULL, "{}", false);
    assert_string_equal(gone, "\"event\":\"DB_RECORD_DELETE\"," DB ",\"collection\":\"person\","
                              "\"key\":\"k\",\"version\":0,\"record\":{\"_id\":\"k\"}" AT "}");
    assert_string_equal(event_of(part, TW_MEANS_REVOKED, NULL, "{}", false), gone);
    const char *dropped = event_of(part, TW_MEANS_DROP, NULL, NULL, false);
    assert_string_equal(dropped,
                        "\"event\":\"DB_COLLECTION_DROP\"," DB ",\"collection\":\"person\"" AT "}");
    topic_change whole = {.at = {1, 5}, .flags = TW_ROW_DROP | TW_ROW_DROP_DB, .db = TW_STR("crm")};
    tw_buf out;
    tw_buf_init(&out, 4096);
    topic_query_render(&known, part, TW_MEANS_DROP, &whole, &out);
    tw_buf_add_byte(&out, '\0');
    assert_string_equal(out.ptr, "\"event\":\"DB_DATABASE_DROP\"," DB AT "}");
    tw_buf_fini(&out);
    topic_query_free(&crm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topic_query_equal_asks_are_equal_bytes),
        cmocka_unit_test(test_topic_query_bad_asks_are_refused),
        cmocka_unit_test(test_topic_query_meanings),
        cmocka_unit_test(test_topic_query_tells_apart_what_the_rights_are),
        cmocka_unit_test(test_topic_query_revoked_is_what_the_rights_do_not_show),
        cmocka_unit_test(test_topic_query_renderings),
        cmocka_unit_test(test_topic_query_projection_is_mongodbs),
        cmocka_unit_test(test_topic_query_watch_names_what_may_be_read),
        cmocka_unit_test(test_topic_query_changes_are_told_as_mongodb_does),
        cmocka_unit_test(test_topic_query_database_is_one_stream_of_its_collections),
        cmocka_unit_test(test_topic_query_events_are_those_of_the_realtime_database),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
