/* rights_test.c - rules to rights; and a random model: what rights show of 200 records under 200
 * sets of rules, held against rules that are looked at one by one. */
#include "broker/rights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "protocol/limits.h"

#include "broker/query.h"
#include "broker/topic_query.h"

#include "tests/support/bson_text.h"
#include "tests/support/random_doc.h"
#include "tests/support/test_arena.h"

static rights *made(const rights_rule *rules, size_t count, const char *claims)
{
    rights *out = NULL;
    const rights_table table = {.at = rules, .count = count, .default_database = "main"};
    tw_bson given = claims == NULL ? (tw_bson){0} : bson_text(&arena, claims);
    assert_int_equal(rights_new(&out, &table, given, TW_STR("roles")), TW_OK);
    return out;
}

static rights_grant asked(const rights *self, const char *db, const char *coll, unsigned verb)
{
    rights_grant grant;
    assert_int_equal(rights_of(self, &arena, tw_str_of(db), tw_str_of(coll), verb, &grant), TW_OK);
    return grant;
}

static void test_rights_nothing_but_what_a_rule_allows(void **state)
{
    (void)state;
    const rights_rule rules[] = {
        {.role = "reader", .collection = "notes", .verbs = RIGHTS_READ | RIGHTS_SEARCH},
        {.role = "*", .collection = "news", .verbs = RIGHTS_READ},
        {.role = "crm", .database = "crm", .collection = "*", .verbs = RIGHTS_UPDATE},
        {.role = "root", .database = "*", .collection = "*", .verbs = RIGHTS_ADMIN},
    };
    rights *self = made(rules, 4, "{'sub':'ada','roles':['reader','crm','root']}");
    assert_true(asked(self, "main", "notes", RIGHTS_READ).allowed);
    assert_true(asked(self, "main", "notes", RIGHTS_SEARCH).allowed);
    assert_false(asked(self, "main", "notes", RIGHTS_UPDATE).allowed);
    assert_false(asked(self, "crm", "notes", RIGHTS_READ).allowed);
    assert_true(asked(self, "main", "news", RIGHTS_READ).allowed);
    assert_false(asked(self, "main", "other", RIGHTS_READ).allowed);
    assert_true(asked(self, "crm", "any", RIGHTS_UPDATE).allowed);
    assert_true(asked(self, "crm", "", RIGHTS_UPDATE).allowed);
    assert_false(asked(self, "", "", RIGHTS_UPDATE).allowed);
    assert_true(asked(self, "", "", RIGHTS_ADMIN).allowed);
    assert_true(asked(self, "x", "y", RIGHTS_ADMIN).allowed);
    assert_true(asked(self, "x", "y", RIGHTS_OPEN).allowed);
    assert_true(asked(NULL, "x", "y", RIGHTS_READ).allowed);
    rights_drop(&self);
    self = made(rules, 4, "{'sub':'ada'}");
    assert_false(asked(self, "main", "notes", RIGHTS_READ).allowed);
    assert_true(asked(self, "main", "news", RIGHTS_READ).allowed);
    rights_drop(&self);
    self = made(rules, 4, NULL); /* nobody: "*" is everybody with a token */
    assert_false(rights_any(self));
    rights_drop(&self);
}

static void test_rights_claims_become_values_or_the_rule_does_not_hold(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *claims, *becomes; /* NULL: does not hold */
    } cases[] = {
        {"{'a':'$claims.sub'}", "{'sub':'ada'}", "{'a':'ada'}"},
        {"{'a':'$claims.org.id'}", "{'org':{'id':5}}", "{'a':5}"},
        {"{'a':{'$in':'$claims.teams'}}", "{'teams':['x','y']}", "{'a':{'$in':['x','y']}}"},
        {"{'a':{'$in':['$claims.sub','all']}}", "{'sub':'ada'}", "{'a':{'$in':['ada','all']}}"},
        {"{'$or':[{'a':'$claims.sub'},{'b':1}]}", "{'sub':'x'}", "{'$or':[{'a':'x'},{'b':1}]}"},
        {"{'a':'$claims.sub'}", "{}", NULL},
        {"{'a':'$claims.sub'}", "{'sub':null}", NULL},
        {"{'a':'$claims.sub'}", "{'sub':{'$ne':1}}", NULL},
        {"{'a':'$claims.sub'}", "{'sub':['ada']}", NULL},
        {"{'a':{'$in':'$claims.teams'}}", "{'teams':'x'}", NULL},
        {"{'a':{'$in':'$claims.teams'}}", "{'teams':[{'$gt':''}]}", NULL},
        {"{'a':{'$in':'$claims.teams'}}", "{'teams':[null]}", NULL},
        {"{'a':{'$ne':'$claims.sub'}}", "{}", NULL},
        {"{'a':{'$nin':'$claims.teams'}}", "{}", NULL},
        {"{'a':'$claims'}", "{'sub':'x'}", "{'a':'$claims'}"},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        rights_rule rule = {.role = "*",
                            .collection = "c",
                            .verbs = RIGHTS_READ,
                            .filter = bson_text(&arena, cases[i].filter)};
        broker_why why = {0};
        assert_int_equal(rights_rule_check(&rule, &why), TW_OK);
        rights *self = made(&rule, 1, cases[i].claims);
        rights_grant grant = asked(self, "main", "c", RIGHTS_READ);
        assert_int_equal(grant.allowed, cases[i].becomes != NULL);
        if (cases[i].becomes != NULL) {
            assert_string_equal(bson_shown(&arena, grant.filter),
                                bson_shown(&arena, bson_text(&arena, cases[i].becomes)));
        }
        rights_drop(&self);
    }
}

static void test_rights_wrong_rules_refused(void **state)
{
    (void)state;
    static const char *const bad_hidden[] = {"a."};
    const rights_rule wrong[] = {
        {.role = "", .collection = "c", .verbs = 1},
        {.role = "r", .collection = "$c", .verbs = 1},
        {.role = "r", .collection = "c"},
        {.role = "r", .collection = "c", .verbs = 1, .filter = bson_text(&arena, "{'$where':'1'}")},
        {.role = "r", .collection = "c", .verbs = 1, .hidden = bad_hidden, .hidden_count = 1},
    };
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        broker_why why = {0};
        assert_int_equal(rights_rule_check(&wrong[i], &why), TW_E_BAD_CONFIG);
        assert_true(why.text[0] != '\0');
    }
}

static void test_rights_questions_about_hidden_fields_seen(void **state)
{
    (void)state;
    tw_str hidden[] = {TW_STR("a.b"), TW_STR("s")};
    const rights_grant grant = {.allowed = true, .hidden = hidden, .hidden_count = 2};
    static const struct {
        const char *filter;
        bool asks;
    } cases[] = {
        {"{'s':1}", true},
        {"{'s.x':1}", true},
        {"{'a':1}", true},
        {"{'a':{'b':1}}", true},
        {"{'a.b':{'$exists':true}}", true},
        {"{'a.0.b':1}", true},
        {"{'a.b.c.d':1}", true},
        {"{'$or':[{'c':1},{'$and':[{'s':{'$gt':1}}]}]}", true},
        {"{'$nor':[{'s':1}]}", true},
        {"{'a':{'$elemMatch':{'b':1}}}", true},
        {"{'a':{'$elemMatch':{'$or':[{'c':1},{'b':2}]}}}", true},
        {"{'a':{'$elemMatch':{'c':1}}}", false},
        {"{'a.c':1}", false},
        {"{'ab':1}", false},
        {"{'sx':1,'x':{'s':1}}", false},
        {"{'a':{'$not':{'$elemMatch':{'b':1}}}}", true},
        {"{'a':{'$size':1}}", true},
        {"{}", false},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        if (rights_filter_asks_hidden(&grant, bson_text(&arena, cases[i].filter)) !=
            cases[i].asks) {
            fail_msg("%s", cases[i].filter);
        }
    }
}

static void test_rights_updates_of_what_they_stand_on_seen(void **state)
{
    (void)state;
    tw_str hidden[] = {TW_STR("s")};
    const rights_grant grant = {.allowed = true,
                                .hidden = hidden,
                                .hidden_count = 1,
                                .filter = bson_text(&arena, "{'$or':[{'o.n':1},{'t':2}]}")};
    static const struct {
        const char *update;
        bool meets;
    } cases[] = {
        {"{'$set':{'x':1}}", false},       {"{'$set':{'o.n':1}}", true},
        {"{'$set':{'o':{}}}", true},       {"{'$set':{'o.m':1}}", false},
        {"{'$unset':{'t':1}}", true},      {"{'$rename':{'x':'t'}}", true},
        {"{'$rename':{'t':'x'}}", true},   {"{'$rename':{'x':'s'}}", true},
        {"{'$rename':{'x':'y'}}", false},  {"{'$set':{'s.a':1}}", true},
        {"{'$inc':{'n':1,'t':1}}", true},  {"{'$push':{'o.0.n':1}}", true},
        {"{'$set':{'o.n.deep':1}}", true}, {"{'x':1}", true},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        if (rights_update_meets(&grant, bson_text(&arena, cases[i].update)) != cases[i].meets) {
            fail_msg("%s", cases[i].update);
        }
    }
}

static void test_rights_hidden_fields_taken_out(void **state)
{
    (void)state;
    tw_str hidden[] = {TW_STR("s"), TW_STR("a.b"), TW_STR("d.e.f")};
    const rights_grant grant = {.allowed = true, .hidden = hidden, .hidden_count = 3};
    static const char *const cases[][2] = {
        {"{'_id':1,'s':{'x':1},'t':1}", "{'_id':1,'t':1}"},
        {"{'a':{'b':1,'c':2}}", "{'a':{'c':2}}"},
        {"{'a':[{'b':1,'c':2},5,[{'b':3}]]}", "{'a':[{'c':2},5,[{}]]}"},
        {"{'d':[{'e':[{'f':1,'g':2}]}],'e':{'f':1}}", "{'d':[{'e':[{'g':2}]}],'e':{'f':1}}"},
        {"{'a':7,'d':{'e':9}}", "{'a':7,'d':{'e':9}}"},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        tw_buf out;
        tw_buf_init(&out, 65536);
        rights_hide(&grant, bson_text(&arena, cases[i][0]), &out);
        assert_string_equal(bson_shown(&arena, (tw_bson){(const uint8_t *)out.ptr, out.len}),
                            bson_shown(&arena, bson_text(&arena, cases[i][1])));
        tw_buf_fini(&out);
    }
}

static void test_rights_clauses_that_an_index_cannot_hold_seen(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        bool positive;
    } cases[] = {
        {"{'a':1,'b':'x'}", true},           {"{'a':{'$in':['x']}}", true},
        {"{'a':{'$gte':1,'$lt':5}}", true},  {"{'$or':[{'a':1},{'$and':[{'b':2}]}]}", true},
        {"{'a':{'$ne':1}}", false},          {"{'a':null}", false},
        {"{'a':{'$in':[null]}}", false},     {"{'a':{'$gt':'x'}}", false},
        {"{'a':{'$exists':false}}", false},  {"{'$nor':[{'a':1}]}", false},
        {"{'a':{'$not':{'$gt':1}}}", false}, {"{'$or':[{'a':1},{'b':{'$nin':[1]}}]}", false},
    };
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        assert_int_equal(rights_filter_is_positive(bson_text(&arena, cases[i].filter)),
                         cases[i].positive);
    }
}

/* ---- the model ---- */

enum { RECORDS = 200, RULE_SETS = 200, RULES_MAX = 5 };

static const char *const filters[] = {
    "",
    "{'owner':'$claims.sub'}",
    "{'team':{'$in':'$claims.teams'}}",
    "{'level':{'$lte':3}}",
    "{'$or':[{'owner':'$claims.sub'},{'open':true}]}",
    "{'tags':{'$ne':'closed'}}",
    "{'deep.team':'$claims.team'}",
    "{'owner':'$claims.missing'}",
};
static const char *const hiding[][2] = {
    {NULL, NULL}, {"secret", NULL}, {"deep.secret", NULL}, {"secret", "list.secret"}};

static tw_bson random_record(random_doc *chance, int id)
{
    static const char *const people[] = {"ada", "bob", "eve"};
    static const char *const teams[] = {"red", "blue", "green"};
#define PICK(from) from[random_doc_draw(chance, TW_COUNT(from))]
    return bson_text(
        &arena, tw_arena_format(
                    &arena,
                    "{'_id':%d,'owner':'%s','team':'%s','level':%d,'open':%s,'tags':['%s'],"
                    "'secret':'HIDDEN-%d','deep':{'team':'%s','secret':'HIDDEN-%d','x':1},"
                    "'list':[{'secret':'HIDDEN-%d','y':2},3]}",
                    id, PICK(people), PICK(teams), (int)random_doc_draw(chance, 6),
                    random_doc_draw(chance, 4) == 0 ? "true" : "false",
                    random_doc_draw(chance, 2) == 0 ? "closed" : "new", id, PICK(teams), id, id));
#undef PICK
}

/* What a rule alone says of a record, spelled out with the claims of ada of red and blue. */
static bool rule_shows(size_t filter, tw_bson doc)
{
    static const char *const plain[] = {
        "{}",
        "{'owner':'ada'}",
        "{'team':{'$in':['red','blue']}}",
        "{'level':{'$lte':3}}",
        "{'$or':[{'owner':'ada'},{'open':true}]}",
        "{'tags':{'$ne':'closed'}}",
        "{'deep.team':'red'}",
        NULL,
    };
    if (plain[filter] == NULL) {
        return false;
    }
    query *compiled = NULL;
    broker_why why = {0};
    assert_int_equal(query_compile(bson_text(&arena, plain[filter]), &compiled, &why), TW_OK);
    bool shows = query_match(compiled, doc);
    query_free(&compiled);
    return shows;
}

static size_t count_text(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++) {
        count++;
    }
    return count;
}

static const catalog known = {.magic = CATALOG_MAGIC, .default_database = "main"};

/* Every way in which streams tell of a record, under the asker's rights. */
static void check_told(const rights *self, tw_bson doc, bool shown, const bool hidden[3])
{
    static const char *const ways[] = {"{'notes':'*'}", "{'notes':{'fields':['secret','deep']}}"};
    for (size_t way = 0; way < TW_COUNT(ways) + 2; way++) {
        tw_bson canonical;
        broker_why why = {0};
        tw_bson none = bson_text(&arena, "{}");
        tw_err err =
            way < TW_COUNT(ways)
                ? topic_query_of_subscribe(&known, self, &arena, bson_text(&arena, ways[way]),
                                           &canonical, &why)
            : way == TW_COUNT(ways)
                ? topic_query_of_watch(&known, self, &arena, none, &canonical, &why)
                : topic_query_of_database(&known, self, &arena, TW_STR("main"), &canonical, &why);
        if (err != TW_OK) {
            assert_int_equal(err, TW_E_FORBIDDEN);
            assert_false(shown);
            continue;
        }
        topic_query *compiled = NULL;
        assert_int_equal(topic_query_compile(&known, canonical, &compiled, &why), TW_OK);
        int part = topic_query_part_of(compiled, TW_STR("main"), TW_STR("notes"));
        assert_int_equal(topic_query_part_of(compiled, TW_STR("main"), TW_STR("others")), -1);
        unsigned meaning = part < 0 ? 0
                                    : topic_query_meaning(compiled, part, TW_ROW_PUT, doc,
                                                          (tw_bson){0}, (tw_position){1, 1}, true);
        assert_int_equal(meaning != 0, shown);
        if (meaning != 0) {
            tw_buf out;
            tw_key key;
            tw_buf_init(&out, 1 << 20);
            assert_int_equal(tw_key_of_value(&arena, tw_bson_get(doc, TW_STR("_id")), &key), TW_OK);
            const topic_change change = {.at = {1, 2},
                                         .flags = TW_ROW_PUT,
                                         .key = key,
                                         .version = 1,
                                         .doc = doc,
                                         .db = TW_STR("main"),
                                         .coll = TW_STR("notes"),
                                         .prev = 1,
                                         .old = doc,
                                         .old_told = true};
            topic_query_render(&known, &compiled->parts[part], meaning, &change, &out);
            tw_buf_add_byte(&out, '\0');
            assert_int_equal(out.err, TW_OK);
            size_t allowed = 3;
            for (size_t i = 0; i < 3; i++) {
                allowed -= hidden[i] ? 1 : 0;
            }
            assert_true(count_text(out.ptr, "HIDDEN") <= allowed);
            tw_buf_fini(&out);
        }
        topic_query_free(&compiled);
    }
}

static void test_rights_random_rules_show_what_the_model_shows(void **state)
{
    (void)state;
    random_doc chance = {.state = 20261128};
    tw_bson records[RECORDS];
    size_t shown_at_all = 0;
    for (int i = 0; i < RECORDS; i++) {
        records[i] = random_record(&chance, i);
    }
    for (int set = 0; set < RULE_SETS; set++) {
        rights_rule rules[RULES_MAX] = {0};
        size_t filter[RULES_MAX], hides[RULES_MAX];
        size_t count = 1 + random_doc_draw(&chance, RULES_MAX);
        for (size_t i = 0; i < count; i++) {
            filter[i] = random_doc_draw(&chance, TW_COUNT(filters));
            hides[i] = random_doc_draw(&chance, TW_COUNT(hiding));
            rules[i] = (rights_rule){
                .role = "r",
                .collection = "notes",
                .verbs = RIGHTS_READ,
                .filter = filter[i] == 0 ? (tw_bson){0} : bson_text(&arena, filters[filter[i]]),
                .hidden = hiding[hides[i]],
                .hidden_count = hides[i] == 0   ? 0
                                : hides[i] == 3 ? 2
                                                : 1};
        }
        rights *self = made(rules, count,
                            "{'sub':'ada','team':'red','teams':['red','blue'],"
                            "'roles':'r'}");
        rights_grant grant = asked(self, "main", "notes", RIGHTS_READ);
        query *compiled = NULL;
        broker_why why = {0};
        assert_int_equal(query_compile_joined(grant.filter, &compiled, &why), TW_OK);
        for (int k = 0; k < RECORDS; k++) {
            bool shows = false;
            bool hidden[3] = {true, true, true}; /* secret, deep.secret, list.secret */
            for (size_t i = 0; i < count; i++) {
                if (!rule_shows(filter[i], records[k])) {
                    continue;
                }
                shows = true; /* a field is hidden for sure where each rule that shows hides it */
                hidden[0] = hidden[0] && (hides[i] == 1 || hides[i] == 3);
                hidden[1] = hidden[1] && hides[i] == 2;
                hidden[2] = hidden[2] && hides[i] == 3;
            }
            assert_int_equal(grant.allowed && query_match(compiled, records[k]), shows);
            tw_buf out;
            tw_buf_init(&out, 65536);
            rights_hide(&grant, records[k], &out);
            tw_bson told = {(const uint8_t *)out.ptr, out.len};
            bool has[3] = {tw_bson_get(told, TW_STR("secret")).type != 0,
                           tw_bson_get_path(told, TW_STR("deep.secret")).type != 0,
                           tw_bson_get_path(told, TW_STR("list.0.secret")).type != 0};
            for (size_t i = 0; i < 3 && shows; i++) {
                assert_false(hidden[i] && has[i]);
            }
            tw_buf_fini(&out);
            shown_at_all += shows ? 1 : 0;
            if (k < 8) {
                check_told(self, records[k], shows, hidden);
            }
        }
        query_free(&compiled);
        rights_drop(&self);
    }
    assert_true(shown_at_all > RECORDS * RULE_SETS / 10); /* the model is no empty one */
}

static void test_rights_equal_only_where_alike(void **state)
{
    (void)state;
    const rights_rule rules[] = {
        {.role = "r",
         .collection = "c",
         .verbs = RIGHTS_READ,
         .filter = bson_text(&arena, "{'o':'$claims.sub'}")},
        {.role = "s", .collection = "c", .verbs = RIGHTS_UPDATE},
    };
    rights *a = made(rules, 2, "{'sub':'ada','roles':'r'}");
    rights *b = made(rules, 2, "{'sub':'ada','roles':['r'],'iat':5}");
    rights *c = made(rules, 2, "{'sub':'bob','roles':'r'}");
    rights *d = made(rules, 2, "{'sub':'ada','roles':['r','s']}");
    assert_true(rights_equal(a, b));
    assert_false(rights_equal(a, c));
    assert_false(rights_equal(a, d));
    rights *held = rights_hold(a);
    rights_drop(&a);
    assert_true(rights_equal(held, b));
    rights_drop(&held);
    rights_drop(&b);
    rights_drop(&c);
    rights_drop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rights_nothing_but_what_a_rule_allows),
        cmocka_unit_test(test_rights_claims_become_values_or_the_rule_does_not_hold),
        cmocka_unit_test(test_rights_wrong_rules_refused),
        cmocka_unit_test(test_rights_questions_about_hidden_fields_seen),
        cmocka_unit_test(test_rights_updates_of_what_they_stand_on_seen),
        cmocka_unit_test(test_rights_hidden_fields_taken_out),
        cmocka_unit_test(test_rights_clauses_that_an_index_cannot_hold_seen),
        cmocka_unit_test(test_rights_random_rules_show_what_the_model_shows),
        cmocka_unit_test(test_rights_equal_only_where_alike),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
