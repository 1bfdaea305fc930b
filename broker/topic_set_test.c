/* topic_set_test.c - the index finds what a scan of all topics would; holders, marks, memory. */
#include "broker/topic_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "tests/support/bson_text.h"

enum { TOPICS = 300, ROWS = 600 };

static tw_arena arena;
static catalog known;
static catalog_collection preset[3];

static int setup(void **state)
{
    (void)state;
    tw_arena_init(&arena, 256 << 20);
    catalog_report_preset("main", preset);
    known = (catalog){.magic = CATALOG_MAGIC, .at = preset, .count = 3, .default_database = "main"};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tw_arena_fini(&arena);
    return 0;
}

/* What a rule gives to a subject. */
static rights *rights_to(const rights_rule *rule, const char *subject)
{
    rights *made = NULL;
    const rights_table table = {.at = rule, .count = 1, .default_database = "main"};
    tw_bson claims = bson_text(&arena, tw_arena_format(&arena, "{'sub':'%s'}", subject));
    assert_int_equal(rights_new(&made, &table, claims, TW_STR("roles")), TW_OK);
    return made;
}

static tw_bson canonical_under(const rights *whose, const char *subscribe)
{
    tw_bson out;
    broker_why why = {0};
    tw_err err =
        topic_query_of_subscribe(&known, whose, &arena, bson_text(&arena, subscribe), &out, &why);
    if (err != TW_OK) {
        fail_msg("%s: %s", subscribe, why.text);
    }
    return out;
}

static tw_bson canonical_of(const char *subscribe)
{
    return canonical_under(NULL, subscribe);
}

static uint64_t open_canonical(topic_set *set, uint64_t gateway, tw_bson canonical)
{
    uint64_t topic = 0;
    broker_why why = {0};
    assert_int_equal(topic_set_open(set, gateway, canonical, &topic, &why), TW_OK);
    assert_true(topic > 0 && topic < TW_I64_MAX);
    return topic;
}

static uint64_t open_topic(topic_set *set, uint64_t gateway, const char *subscribe)
{
    return open_canonical(set, gateway, canonical_of(subscribe));
}

static tw_item_log_row row_of(uint64_t n, const char *coll, const char *doc, const char *old)
{
    tw_item_log_row row = {.n = n, .srv = 7, .seqno = n, .db = TW_STR("main"), .version = 1};
    row.coll = tw_str_of(coll);
    row.flags = (doc != NULL ? TW_ROW_PUT : TW_ROW_DELETE) | TW_ROW_LAST;
    row.doc = doc == NULL ? (tw_bson){0} : bson_text(&arena, doc);
    row.old = old == NULL ? (tw_bson){0} : bson_text(&arena, old);
    assert_int_equal(tw_key_of_value(&arena,
                                     tw_bson_get(doc != NULL ? row.doc : row.old, TW_STR("_id")),
                                     &row.key),
                     TW_OK);
    return row;
}

/* A number without a library's generator: the same run each time. */
static uint64_t state = 88172645463325252ULL;
static unsigned draw(unsigned below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33) % below;
}

static const char *random_doc(unsigned id)
{
    switch (draw(6)) {
    case 0:
        return tw_arena_format(&arena, "{'_id':%u,'a':%u,'b':'k%u','c':{'d':%u}}", id, draw(4),
                               draw(4), draw(3));
    case 1:
        return tw_arena_format(&arena, "{'_id':%u,'a':[%u,%u],'b':'k%u'}", id, draw(4), draw(4),
                               draw(4));
    case 2:
        return tw_arena_format(&arena, "{'_id':%u,'c':[{'d':%u},{'d':%u}],'b':null}", id, draw(3),
                               draw(3));
    case 3:
        return tw_arena_format(&arena, "{'_id':%u,'a':{'$numberDecimal':'%u'}}", id, draw(4));
    case 4:
        return tw_arena_format(&arena, "{'_id':%u,'a':%u.0,'c':{'d':%u.5}}", id, draw(4), draw(3));
    default:
        return tw_arena_format(&arena, "{'_id':%u}", id);
    }
}

static const char *random_filter(void)
{
    switch (draw(7)) {
    case 0:
        return tw_arena_format(&arena, "{'a':%u}", draw(4));
    case 1:
        return tw_arena_format(&arena, "{'a':%u,'b':'k%u'}", draw(4), draw(4));
    case 2:
        return tw_arena_format(&arena, "{'c.d':%u,'a':{'$gte':%u}}", draw(3), draw(4));
    case 3:
        return tw_arena_format(&arena, "{'a':{'$gt':%u}}", draw(4));
    case 4:
        return tw_arena_format(&arena, "{'b':null,'c.d':{'$ne':%u}}", draw(3));
    case 5:
        return tw_arena_format(&arena, "{'c.d':{'$in':[%u,%u.5]}}", draw(3), draw(3));
    default:
        return tw_arena_format(&arena, "{'$or':[{'a':%u},{'b':'k%u'}]}", draw(4), draw(4));
    }
}

typedef struct held {
    uint64_t topic;
    tw_bson canonical;
    topic_query *query;
} held;

static bool tells(const tw_item_event *event, const char *why)
{
    return memmem(event->tail.ptr, event->tail.len, why, strlen(why)) != NULL;
}

/* The meaning that the events tell a topic; 0: nothing. */
static unsigned told(const topic_set_events *events, uint64_t topic)
{
    unsigned found = 0;
    for (size_t i = 0; i < events->count; i++) {
        const tw_item_event *event = &events->at[i];
        for (size_t m = 0; m < event->marks.count; m++) {
            if (event->marks.at[m].topic != topic) {
                continue;
            }
            assert_int_equal(found, 0); /* once at most */
            found = tw_str_equal(event->type, TW_STR("record")) ? TW_MEANS_PUT
                    : tells(event, "\"why\":\"left\"")          ? TW_MEANS_LEFT
                    : tells(event, "\"why\":\"revoked\"")       ? TW_MEANS_REVOKED
                                                                : TW_MEANS_DELETED;
        }
    }
    return found;
}

static void test_topic_set_random_topics_equal_a_scan_of_all(void **unused)
{
    (void)unused;
    static held all[TOPICS];
    size_t count = 0;
    topic_set *set = NULL;
    const rights_rule rule = {.role = "*",
                              .collection = "x",
                              .verbs = RIGHTS_READ,
                              .filter = bson_text(&arena, "{'b':'$claims.sub'}")};
    rights *askers[] = {NULL, rights_to(&rule, "k1"), rights_to(&rule, "k2")};
    assert_int_equal(topic_set_new(&set, &known, TW_TOPICS_MAX), TW_OK);
    topic_set_clock(set, 1);
    for (int i = 0; i < TOPICS; i++) {
        const char *text = tw_arena_format(&arena, "{'x':{'filter':%s%s}}", random_filter(),
                                           draw(2) == 0 ? ",'fields':['a']" : "");
        tw_bson canonical = canonical_under(askers[draw(TW_COUNT(askers))], text);
        uint64_t topic = open_canonical(set, 1 + draw(3), canonical);
        bool again = false;
        for (size_t k = 0; k < count; k++) {
            again = again || all[k].topic == topic;
        }
        if (!again) {
            all[count].topic = topic;
            assert_int_equal(topic_query_compile(&known, canonical, &all[count].query, NULL),
                             TW_OK);
            count++;
        }
    }
    assert_int_equal(topic_set_figures(set).topics, count);
    uint64_t matched = 0;
    uint64_t of_meaning[TW_MEANS_DROP + 1] = {0};
    for (unsigned n = 1; n <= ROWS; n++) {
        const char *old = draw(3) == 0 ? NULL : random_doc(n);
        const char *doc = old != NULL && draw(4) == 0 ? NULL : random_doc(n);
        tw_item_log_row row = row_of(n, "x", doc, old);
        topic_set_events events = {0};
        assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
        for (size_t i = 0; i < count; i++) {
            unsigned wanted = topic_query_meaning(all[i].query, 0, row.flags, row.doc, row.old,
                                                  (tw_position){7, n}, true);
            unsigned got = told(&events, all[i].topic);
            if (wanted != got) {
                fail_msg("row %s (before %s) to %s: %u, not %u", doc, old,
                         bson_shown(&arena, all[i].query->canonical), got, wanted);
            }
            matched += wanted != 0;
            of_meaning[wanted]++;
        }
    }
    assert_true(of_meaning[TW_MEANS_LEFT] > 0 && of_meaning[TW_MEANS_REVOKED] > 0);
    topic_set_stats stats = topic_set_figures(set);
    assert_int_equal(stats.matched, matched);
    assert_true(stats.tested < (uint64_t)ROWS * count); /* the index leaves something out */
    for (size_t i = 0; i < count; i++) {
        topic_query_free(&all[i].query);
    }
    for (size_t i = 0; i < TW_COUNT(askers); i++) {
        rights_drop(&askers[i]);
    }
    topic_set_free(&set);
}

static void test_topic_set_equal_topics_share_and_render_once(void **unused)
{
    (void)unused;
    topic_set *set = NULL;
    assert_int_equal(topic_set_new(&set, &known, 100), TW_OK);
    uint64_t a = open_topic(set, 1, "{'entries':'*','project_id':7}");
    assert_int_equal(open_topic(set, 2, "{'project':7.0,'entries':'*'}"), a);
    uint64_t b = open_topic(set, 2, "{'entries':'*'}");
    assert_true(a != b);
    tw_item_log_row row = row_of(5, "entries", "{'_id':1,'proj_id':7}", NULL);
    topic_set_events events = {0};
    assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
    assert_int_equal(events.count, 1);
    assert_int_equal(events.at[0].marks.count, 2);
    assert_int_equal(events.at[0].marks.at[0].prev, 0);
    row = row_of(6, "entries", "{'_id':1,'proj_id':8}", "{'_id':1,'proj_id':7}");
    assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
    assert_int_equal(events.count, 3); /* left for a, put for b */
    assert_int_equal(events.at[1].marks.at[0].prev, 5);
    row = row_of(7, "entries", "{'_id':1,'proj_id':7}", NULL);
    row.flags |= TW_ROW_SILENT;
    assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
    assert_int_equal(events.count, 3);
    row = (tw_item_log_row){.n = 8, .srv = 7, .seqno = 8, .flags = TW_ROW_DROP | TW_ROW_LAST};
    row.db = TW_STR("main");
    row.coll = TW_STR("entries");
    assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
    assert_int_equal(events.count, 4);
    assert_int_equal(events.at[3].marks.count, 2);
    assert_true(tw_str_equal(events.at[3].type, TW_STR("drop")));
    topic_set_free(&set);
}

/* A record left by versions that were not told: who was told one before them is told now. */
static void test_topic_set_past_versions_leave_too(void **unused)
{
    (void)unused;
    topic_set *set = NULL;
    assert_int_equal(topic_set_new(&set, &known, 100), TW_OK);
    uint64_t one = open_topic(set, 1, "{'x':{'filter':{'a':1}}}");
    (void)open_topic(set, 1, "{'x':{'filter':{'a':4}}}");
    uint64_t low = open_topic(set, 1, "{'x':{'filter':{'a':{'$lt':3}}}}");
    const tw_item_past past[] = {{{0}}, {bson_text(&arena, "{'_id':1,'a':1}")}};
    tw_item_log_row row = row_of(5, "x", "{'_id':1,'a':9}", "{'_id':1,'a':8}");
    topic_set_events events = {0};
    assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
    assert_int_equal(events.count, 0); /* the version before was not theirs */
    row.past = (tw_list_past){past, TW_COUNT(past)};
    assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
    size_t marks = 0;
    for (size_t i = 0; i < events.count; i++) {
        assert_true(tw_str_equal(events.at[i].type, TW_STR("remove")));
        for (size_t k = 0; k < events.at[i].marks.count; k++, marks++) {
            uint64_t topic = events.at[i].marks.at[k].topic;
            assert_true(topic == one || topic == low);
        }
    }
    assert_int_equal(marks, 2);
    topic_set_free(&set);
}

static void test_topic_set_topics_end_with_their_last_holder(void **unused)
{
    (void)unused;
    topic_set *set = NULL;
    uint64_t topic = 0;
    assert_int_equal(topic_set_new(&set, &known, 2), TW_OK);
    topic_set_clock(set, 1000);
    uint64_t a = open_topic(set, 1, "{'x':{'filter':{'a':1}}}");
    uint64_t b = open_topic(set, 2, "{'x':'*'}");
    assert_int_equal(open_topic(set, 2, "{'x':{'filter':{'a':1}}}"), a);
    assert_int_equal(topic_set_open(set, 1, canonical_of("{'y':'*'}"), &topic, NULL), TW_E_BUSY);
    topic_set_keep(set, 1, NULL, 0);
    assert_int_equal(topic_set_figures(set).topics, 2); /* gateway 2 has both */
    topic_set_keep(set, 2, &b, 1);
    assert_int_equal(topic_set_figures(set).topics, 1);
    uint64_t again = open_topic(set, 1, "{'x':{'filter':{'a':1}}}");
    assert_true(again > a); /* ids are not used twice */
    topic_set_clock(set, 2000);
    topic_set_keep(set, 1, &again, 1);
    topic_set_expire(set, 2000);
    assert_int_equal(topic_set_figures(set).topics, 1);
    topic_set_expire(set, 2001);
    assert_int_equal(topic_set_figures(set).topics, 0);
    assert_int_equal(topic_set_open(set, 1, (tw_bson){0}, &topic, NULL), TW_E_BAD_QUERY);
    topic_set_free(&set);
}

static uint64_t open_watch(topic_set *set, const char *watch)
{
    tw_bson canonical;
    uint64_t topic = 0;
    broker_why why = {0};
    assert_int_equal(
        topic_query_of_watch(&known, NULL, &arena, bson_text(&arena, watch), &canonical, &why),
        TW_OK);
    assert_int_equal(topic_set_open(set, 1, canonical, &topic, &why), TW_OK);
    return topic;
}

static void test_topic_set_change_streams_are_told_of_any_collection(void **unused)
{
    (void)unused;
    topic_set *set = NULL;
    preset[1].read_denied = true; /* threads */
    assert_int_equal(topic_set_new(&set, &known, 10), TW_OK);
    uint64_t all = open_watch(set, "{}");
    uint64_t some = open_watch(set, "{'collections':['x','entries']}");
    uint64_t records = open_topic(set, 1, "{'x':'*'}");
    static const struct {
        const char *coll;
        size_t topics;
    } samples[] = {{"x", 3}, {"entries", 2}, {"threads", 0}, {"later", 1}};
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        for (int kind = 0; kind < 3; kind++) { /* put, delete, drop */
            topic_set_events events = {0};
            const char *doc = "{'_id':1,'version_uuid':1}";
            tw_item_log_row row =
                row_of(1 + i, samples[i].coll, kind == 0 ? doc : NULL, kind == 0 ? NULL : doc);
            row.flags = kind == 2 ? TW_ROW_DROP | TW_ROW_LAST : row.flags;
            row.origin = TW_STR("me");
            assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
            size_t topics = 0;
            for (size_t e = 0; e < events.count; e++) {
                const tw_list_mark *marks = &events.at[e].marks;
                topics += marks->count;
                for (size_t m = 0; m < marks->count; m++) {
                    bool is_change = marks->at[m].topic == all || marks->at[m].topic == some;
                    assert_true(is_change || marks->at[m].topic == records);
                    assert_int_equal(events.at[e].type.len == 0, is_change);
                }
            }
            assert_int_equal(topics, samples[i].topics);
        }
    }
    preset[1].read_denied = false;
    topic_set_free(&set);
}

static void test_topic_set_followers_are_streams_that_name_the_collection(void **unused)
{
    (void)unused;
    topic_set *set = NULL;
    assert_int_equal(topic_set_new(&set, &known, 200), TW_OK);
    open_watch(set, "{}");
    open_watch(set, "{'collections':['x']}");
    tw_bson canonical;
    broker_why why = {0};
    uint64_t events = 0;
    assert_int_equal(
        topic_query_of_database(&known, NULL, &arena, TW_STR("main"), &canonical, &why), TW_OK);
    assert_int_equal(topic_set_open(set, 1, canonical, &events, &why), TW_OK);
    uint64_t named = open_topic(set, 1, "{'x':'*','y':'*'}");
    open_topic(set, 1, "{'y':'*'}");
    tw_list_one_id found;
    assert_int_equal(topic_set_followers(set, &arena, TW_STR("main"), TW_STR("x"), &found), TW_OK);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.at[0].id, named);
    for (int i = 0; i < 150; i++) { /* more than fit at first */
        open_topic(set, 1, tw_arena_format(&arena, "{'x':{'filter':{'a':%d}}}", i));
    }
    assert_int_equal(topic_set_followers(set, &arena, TW_STR("main"), TW_STR("x"), &found), TW_OK);
    assert_int_equal(found.count, 151);
    assert_int_equal(topic_set_followers(set, &arena, TW_STR("crm"), TW_STR("x"), &found), TW_OK);
    assert_int_equal(found.count, 0);
    topic_set_free(&set);
}

enum { AS_RECORDS, AS_CHANGES, AS_EVENTS, WAYS };

static uint64_t open_as(topic_set *set, const rights *whose, int way)
{
    tw_bson canonical;
    uint64_t topic = 0;
    broker_why why = {0};
    tw_bson ask = bson_text(&arena, way == AS_RECORDS ? "{'x':'*'}" : "{}");
    tw_err err =
        way == AS_RECORDS ? topic_query_of_subscribe(&known, whose, &arena, ask, &canonical, &why)
        : way == AS_CHANGES
            ? topic_query_of_watch(&known, whose, &arena, ask, &canonical, &why)
            : topic_query_of_database(&known, whose, &arena, TW_STR("main"), &canonical, &why);
    assert_int_equal(err, TW_OK);
    assert_int_equal(topic_set_open(set, 1, canonical, &topic, &why), TW_OK);
    return topic;
}

/* The bytes that a topic is told; "": nothing. */
static const char *tail_of(const topic_set_events *events, uint64_t topic)
{
    const char *found = "";
    for (size_t i = 0; i < events->count; i++) {
        const tw_item_event *event = &events->at[i];
        for (size_t m = 0; m < event->marks.count; m++) {
            if (event->marks.at[m].topic == topic) {
                assert_string_equal(found, "");
                found = tw_arena_format(&arena, "%.*s", (int)event->tail.len, event->tail.ptr);
            }
        }
    }
    return found;
}

/* Bytes are shared by those alone whose rights show the same of a record, before and after. */
static void test_topic_set_rights_share_no_bytes_with_wider_ones(void **unused)
{
    (void)unused;
    static const char *const hidden[] = {"secret"};
    static const char *const names[] = {"x", "*"}; /* a rule for all has no collection of its own */
    for (int i = 0; i < WAYS * 2 * 2; i++) {
        int way = i % WAYS;
        bool narrow_first = i / WAYS % 2 == 1;
        const rights_rule rule = {.role = "*",
                                  .collection = names[i / WAYS / 2],
                                  .verbs = RIGHTS_READ,
                                  .filter = bson_text(&arena, "{'owner':'$claims.sub'}"),
                                  .hidden = hidden,
                                  .hidden_count = TW_COUNT(hidden)};
        topic_set *set = NULL;
        assert_int_equal(topic_set_new(&set, &known, 100), TW_OK);
        rights *of_ada = rights_to(&rule, "ada");
        uint64_t all = narrow_first ? 0 : open_as(set, NULL, way);
        uint64_t ada = open_as(set, of_ada, way);
        all = narrow_first ? open_as(set, NULL, way) : all;
        tw_item_log_row row = row_of(5, "x", "{'_id':1,'owner':'ada','secret':'HIDDEN','n':2}",
                                     "{'_id':1,'owner':'bob','secret':'OLD','gone':1,'n':1}");
        row.prev = 4;
        topic_set_events events = {0};
        assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
        const char *narrow = tail_of(&events, ada);
        assert_non_null(strstr(tail_of(&events, all), "HIDDEN"));
        assert_non_null(strstr(narrow, "\"n\":2"));
        assert_null(strstr(narrow, "HIDDEN"));
        assert_null(strstr(narrow, "updateDescription"));
        if (way != AS_RECORDS) { /* it was not there for her */
            assert_non_null(strstr(narrow, way == AS_CHANGES ? "insert" : "DB_RECORD_ADD"));
        }
        topic_set_free(&set);
        rights_drop(&of_ada);
    }
}

/* One change, three words: each topic is told its own, rendered once for all who are told it. */
static void test_topic_set_tells_why_to_each(void **unused)
{
    (void)unused;
    const rights_rule rule = {.role = "*",
                              .collection = "x",
                              .verbs = RIGHTS_READ,
                              .filter = bson_text(&arena, "{'owner':'$claims.sub'}")};
    rights *of_ada = rights_to(&rule, "ada");
    topic_set *set = NULL;
    assert_int_equal(topic_set_new(&set, &known, 100), TW_OK);
    uint64_t all = open_topic(set, 1, "{'x':'*'}");
    uint64_t asks = open_topic(set, 1, "{'x':{'filter':{'owner':'ada'}}}");
    uint64_t hers = open_canonical(set, 1, canonical_under(of_ada, "{'x':'*'}"));
    uint64_t both =
        open_canonical(set, 2, canonical_under(of_ada, "{'x':{'filter':{'owner':'ada'}}}"));
    assert_true(asks != hers && hers != both); /* what they are told differs, or may */
    static const struct {
        const char *doc; /* NULL: removed */
        const char *old;
        const char *told[4]; /* to all, asks, hers, both */
        size_t renderings;
    } changes[] = {
        {"{'_id':1,'owner':'bob'}",
         "{'_id':1,'owner':'ada'}",
         {"\"op\":\"put\"", "\"why\":\"left\"", "\"why\":\"revoked\"", "\"why\":\"revoked\""},
         3},
        {NULL,
         "{'_id':1,'owner':'ada'}",
         {"\"why\":\"deleted\"", "\"why\":\"deleted\"", "\"why\":\"deleted\"",
          "\"why\":\"deleted\""},
         1},
        {"{'_id':1,'owner':'eve'}", "{'_id':1,'owner':'bob'}", {"\"op\":\"put\"", "", "", ""}, 1},
    };
    for (size_t i = 0; i < TW_COUNT(changes); i++) {
        topic_set_events events = {0};
        tw_item_log_row row = row_of(5 + i, "x", changes[i].doc, changes[i].old);
        assert_int_equal(topic_set_apply(set, &arena, &row, &events), TW_OK);
        assert_int_equal(events.count, changes[i].renderings);
        const uint64_t topics[] = {all, asks, hers, both};
        for (size_t k = 0; k < TW_COUNT(topics); k++) {
            const char *tail = tail_of(&events, topics[k]);
            if (changes[i].told[k][0] == '\0' ? tail[0] != '\0'
                                              : strstr(tail, changes[i].told[k]) == NULL) {
                fail_msg("change %zu, topic %zu: %s", i, k, tail);
            }
            assert_true(k == 0 || strstr(tail, "bob") == NULL); /* nothing of what is not theirs */
        }
    }
    topic_set_free(&set);
    rights_drop(&of_ada);
}

static void test_topic_set_without_memory_changes_nothing(void **unused)
{
    (void)unused;
    tw_bson canonical = canonical_of("{'x':{'filter':{'a':1}},'y':'*'}");
    tw_err err = TW_E_NO_MEMORY;
    for (uint64_t nth = 1; err == TW_E_NO_MEMORY; nth++) {
        topic_set *set = NULL;
        uint64_t topic = 0;
        topic_set_events events = {0};
        tw_item_log_row row = row_of(1, "x", "{'_id':1,'a':1}", NULL);
        tw_alloc_fail_at(nth);
        err = topic_set_new(&set, &known, 10);
        if (err == TW_OK) {
            err = topic_set_open(set, 1, canonical, &topic, NULL);
        }
        if (err == TW_OK) {
            err = topic_set_apply(set, &arena, &row, &events);
        }
        tw_alloc_fail_at(0);
        assert_true(err == TW_OK || err == TW_E_NO_MEMORY);
        topic_set_free(&set);
        assert_true(nth < 500);
    }
    assert_int_equal(err, TW_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topic_set_random_topics_equal_a_scan_of_all),
        cmocka_unit_test(test_topic_set_equal_topics_share_and_render_once),
        cmocka_unit_test(test_topic_set_past_versions_leave_too),
        cmocka_unit_test(test_topic_set_topics_end_with_their_last_holder),
        cmocka_unit_test(test_topic_set_change_streams_are_told_of_any_collection),
        cmocka_unit_test(test_topic_set_followers_are_streams_that_name_the_collection),
        cmocka_unit_test(test_topic_set_rights_share_no_bytes_with_wider_ones),
        cmocka_unit_test(test_topic_set_tells_why_to_each),
        cmocka_unit_test(test_topic_set_without_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
