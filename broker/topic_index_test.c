/* topic_index_test.c - whoever's filter matches is told, whatever filter and document; few others
 * are. */
#include "broker/topic_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "tests/support/bson_text.h"

enum { ROUNDS = 8, MEMBERS = 400, DOCS = 250, SEED = 7 };

static tw_arena arena;
static char owner; /* a topic that is none */

static int setup(void **state)
{
    (void)state;
    tw_arena_init(&arena, 1 << 30);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tw_arena_fini(&arena);
    return 0;
}

static uint64_t chance = 88172645463325252ULL;
static unsigned draw(unsigned below)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (unsigned)(chance >> 33) % below;
}

#define PICK(list) ((list)[draw(TW_COUNT(list))])
#define TEXT(...)  tw_arena_format(&arena, __VA_ARGS__)

/* A document in single quotes; false: by chance a name stands twice in it, or it is none. */
static bool read_text(const char *text, tw_bson *out)
{
    char *json = (char *)tw_arena_str(&arena, tw_str_of(text)).ptr;
    for (size_t i = 0; i < strlen(text); i++) {
        json[i] = json[i] == '\'' ? '"' : json[i];
    }
    return tw_json_read(&arena, (tw_str){json, strlen(text)}, TW_DEPTH_MAX, out, NULL) == TW_OK;
}

/* ---- documents and filters by chance ---- */

static const char *random_text(void)
{
    static const char *const pieces[] = {"a",   "b",      "k", "S",      "ab", "bc",
                                         "abc", "x1",     ".", "é",      "ß",  "K",
                                         "\\n", "\u212a", "A", "\u017f", " ",  "abkab"};
    const char *made = "";
    for (unsigned i = draw(5); i > 0; i--) {
        made = TEXT("%s%s", made, PICK(pieces));
    }
    return made;
}

static const char *random_scalar(void)
{
    static const char *const odd[] = {
        "null",
        "true",
        "false",
        "0.5",
        "1.5",
        "-0.0",
        "2.0",
        "{'$numberLong':'9007199254740993'}",
        "{'$numberLong':'9007199254740992'}",
        "9007199254740992.0",
        "1e300",
        "{'$numberDouble':'NaN'}",
        "{'$numberDouble':'Infinity'}",
        "{'$numberDouble':'-Infinity'}",
        "{'$numberDecimal':'1'}",
        "{'$numberDecimal':'1.50'}",
        "{'$numberDecimal':'0.5'}",
        "{'$numberDecimal':'1E+300'}",
        "{'$numberDecimal':'NaN'}",
        "{'$numberDecimal':'-Infinity'}",
        "{'$date':{'$numberLong':'-5'}}",
        "{'$date':{'$numberLong':'5'}}",
        "{'$oid':'00000000000000000000000a'}",
        "{'$oid':'00000000000000000000000b'}",
        "{'$timestamp':{'t':1,'i':2}}",
        "{'$timestamp':{'t':4000000000,'i':2}}",
        "{'$binary':{'base64':'AAEC','subType':'00'}}",
        "{'$binary':{'base64':'AAEC','subType':'05'}}",
        "{'$minKey':1}",
        "{'$maxKey':1}",
        "{'$undefined':true}",
        "{'$symbol':'ab'}",
        "{'$code':'ab'}",
    };
    switch (draw(4)) {
    case 0:
        return PICK(odd);
    case 1:
        return TEXT("'%s'", random_text());
    default:
        return TEXT("%d", (int)draw(9) - 2);
    }
}

static const char *random_regex(void)
{
    static const char *const pieces[] = {
        "a",        "b",    "k",           "S",      "ab",    "abc",          "bc",
        ".",        "[ab]", "(a|b)",       "a*",     "b+",    "c?",           "b{2}",
        "é",        "é?",   "\\\\.",       "(?:ab)", "(ab)?", "(?i)a",        "\\\\d",
        "[^a]",     "x1",   "|",           "^",      "$",     "ab|bc",        "b{0,2}",
        "(?:a|b)?", "s+?",  "[]a]",        "\\\\s",  "ß*",    "\\\\Qa.\\\\E", "{",
        "\u212a",   " ",    "[[:alpha:]]",
    };
    const char *made = "";
    for (unsigned i = 1 + draw(4); i > 0; i--) {
        made = TEXT("%s%s", made, PICK(pieces));
    }
    return made;
}

static const char *random_regex_value(void)
{
    static const char *const options[] = {"", "", "i", "s", "x", "im"};
    return TEXT("{'$regularExpression':{'pattern':'%s','options':'%s'}}", random_regex(),
                PICK(options));
}

static const char *random_value(int depth);

static const char *random_name(void)
{
    static const char *const names[] = {"a", "b", "c", "a", "b", "0", "1"};
    return PICK(names);
}

static const char *random_doc(int depth)
{
    const char *made = "";
    for (unsigned i = draw(4); i > 0; i--) {
        made = TEXT("%s%s'%s':%s", made, made[0] == '\0' ? "" : ",", random_name(),
                    random_value(depth));
    }
    return TEXT("{%s}", made);
}

static tw_bson random_bson(void)
{
    tw_bson doc;
    while (!read_text(random_doc(3), &doc)) {
    }
    return doc;
}

static const char *random_value(int depth)
{
    unsigned kind = draw(8);
    if (depth == 0 || kind > 3) {
        return draw(30) == 0 ? random_regex_value() : random_scalar();
    }
    if (kind == 0) {
        return random_doc(depth - 1);
    }
    const char *made = "";
    for (unsigned i = draw(4); i > 0; i--) {
        made = TEXT("%s%s%s", made, made[0] == '\0' ? "" : ",", random_value(depth - 1));
    }
    return TEXT("[%s]", made);
}

static const char *random_path(void)
{
    const char *made = random_name();
    for (unsigned i = draw(3); i > 0; i--) {
        made = TEXT("%s.%s", made, random_name());
    }
    return made;
}

static const char *random_list(void)
{
    const char *made = "";
    for (unsigned i = draw(4); i > 0; i--) {
        made = TEXT("%s%s%s", made, made[0] == '\0' ? "" : ",",
                    draw(6) == 0 ? random_regex_value() : random_value(1));
    }
    return TEXT("[%s]", made);
}

static const char *random_filter(int depth);

/* {"$op": ..., ...} at a path. */
static const char *random_operators(int depth)
{
    static const char *const orders[] = {"gt", "gte", "lt", "lte"};
    static const char *const types[] = {"'string'", "'number'", "4",       "['null','bool']",
                                        "'object'", "3",        "'regex'", "'minKey'",
                                        "'date'",   "'symbol'"};
    switch (draw(depth > 0 ? 14 : 11)) {
    case 0:
        return TEXT("'$eq':%s", random_value(1));
    case 1:
        return TEXT("'$ne':%s", random_value(1));
    case 2:
    case 3:
        return TEXT("'$%s':%s", PICK(orders), random_value(1));
    case 4:
    case 5:
        return TEXT("'$%s':%s,'$%s':%s", orders[draw(2)], random_scalar(), orders[2 + draw(2)],
                    random_scalar());
    case 6:
        return TEXT("'$%s':%s", draw(3) == 0 ? "nin" : "in", random_list());
    case 7:
        return TEXT("'$exists':%s", draw(3) == 0 ? "false" : "true");
    case 8:
        return TEXT("'$type':%s", PICK(types));
    case 9:
        return TEXT("'$size':%u", draw(3));
    case 10:
        return TEXT("'$regex':'%s','$options':'%s'", random_regex(), draw(3) == 0 ? "i" : "");
    case 11:
        return TEXT("'$not':{%s}", random_operators(depth - 1));
    case 12:
        return TEXT("'$elemMatch':{%s}", random_operators(depth - 1));
    default:
        return TEXT("'$elemMatch':%s", random_filter(depth - 1));
    }
}

static const char *random_clause(int depth)
{
    static const char *const logical[] = {"or", "or", "and", "nor"};
    if (depth > 0 && draw(3) == 0) {
        const char *made = "";
        for (unsigned i = 1 + draw(3); i > 0; i--) {
            made = TEXT("%s%s%s", made, made[0] == '\0' ? "" : ",", random_filter(depth - 1));
        }
        return TEXT("'$%s':[%s]", PICK(logical), made);
    }
    switch (draw(8)) {
    case 0:
        return TEXT("'%s':%s", random_path(), random_value(1));
    case 1:
        return TEXT("'%s':%s", random_path(), random_regex_value());
    case 2:
        return TEXT("'%s':{'$all':%s}", random_path(), random_list());
    default:
        return TEXT("'%s':{%s}", random_path(), random_operators(depth));
    }
}

static const char *random_filter(int depth)
{
    const char *made = "";
    for (unsigned i = 1 + draw(3) / 2; i > 0; i--) {
        made = TEXT("%s%s%s", made, made[0] == '\0' ? "" : ",", random_clause(depth));
    }
    return TEXT("{%s}", made);
}

/* ---- members without topics ---- */

typedef struct holder {
    topic_index_member member;
    topic_query_part part;
    const char *filter;
    bool told;
} holder;

static bool join(topic_index *index, holder *to, const char *filter)
{
    *to = (holder){.filter = filter, .part = {.db = "main", .name = "x"}};
    tw_bson read;
    if (!read_text(filter, &read) || query_compile(read, &to->part.filter, NULL) != TW_OK) {
        return false; /* by chance it was none */
    }
    to->member.topic = &owner;
    to->member.part = &to->part;
    to->member.rendering = to;
    if (topic_index_add(index, &to->member) != TW_OK) {
        query_free(&to->part.filter);
        return false;
    }
    return true;
}

static void leave(topic_index *index, holder *from)
{
    topic_index_remove(index, &from->member);
    query_free(&from->part.filter);
}

static tw_err visit(void *context, topic_index_member *member)
{
    holder *of = member->rendering;
    size_t *count = context;
    assert_false(of->told); /* once */
    of->told = true;
    ++*count;
    return TW_OK;
}

static size_t find(topic_index *index, tw_bson doc, tw_bson old)
{
    size_t count = 0;
    assert_int_equal(topic_index_find(index, TW_STR("main"), TW_STR("x"), doc, old, visit, &count),
                     TW_OK);
    return count;
}

/* Holds a look-up against all filters. Returns how many matched; *told: how many were told. */
static size_t check(topic_index *index, holder *all, size_t count, tw_bson doc, tw_bson old,
                    size_t *told)
{
    size_t matched = 0;
    *told += find(index, doc, old);
    for (size_t i = 0; i < count; i++) {
        bool wanted = (doc.len > 0 && query_match(all[i].part.filter, doc)) ||
                      (old.len > 0 && query_match(all[i].part.filter, old));
        if (wanted && !all[i].told) {
            fail_msg("%s was not told of %s, before %s", all[i].filter, bson_shown(&arena, doc),
                     old.len == 0 ? "nothing" : bson_shown(&arena, old));
        }
        matched += wanted;
        all[i].told = false;
    }
    return matched;
}

static void test_topic_index_random_filters_are_told_of_all_they_match(void **state)
{
    (void)state;
    static holder all[MEMBERS];
    topic_index index;
    size_t matched = 0;
    size_t told = 0;
    size_t pairs = 0;
    assert_int_equal(topic_index_init(&index, SEED), TW_OK);
    for (int round = 0; round < ROUNDS; round++) {
        size_t count = 0;
        while (count < MEMBERS) {
            count += join(&index, &all[count], random_filter(2)) ? 1 : 0;
        }
        for (int i = 0; i < DOCS; i++) {
            tw_bson old = draw(3) == 0 ? random_bson() : (tw_bson){0};
            tw_bson doc = old.len > 0 && draw(4) == 0 ? (tw_bson){0} : random_bson();
            matched += check(&index, all, count, doc, old, &told);
            pairs += count;
            if (i % 2 == 1) { /* one leaves: another takes its place in the array */
                size_t gone = draw((unsigned)count--);
                leave(&index, &all[gone]);
                if (gone < count) {
                    const char *filter = all[count].filter;
                    leave(&index, &all[count]);
                    assert_true(join(&index, &all[gone], filter));
                }
            }
        }
        while (count > 0) {
            leave(&index, &all[--count]);
        }
        assert_int_equal(index.collections.count, 0); /* all of it went with its members */
        tw_arena_reset(&arena);
    }
    printf("%zu pairs, %zu matched, %zu told\n", pairs, matched, told);
    assert_true(matched > pairs / 100);
    assert_true(told < pairs / 2);
    topic_index_fini(&index);
}

/* ---- rules that chance meets too seldom ---- */

#define REGEX(pattern, options)                                                                    \
    "{'$regularExpression':{'pattern':'" pattern "','options':'" options "'}}"

static void test_topic_index_each_rule_tells_of_a_match(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *doc;
    } samples[] = {
        {"{'a':{'$elemMatch':{'0':5}}}", "{'a':[[5]]}"},
        {"{'a':{'$elemMatch':{'b':null}}}", "{'a':[[1]]}"},
        {"{'a':{'$elemMatch':{'b.c':{'$gt':2}}}}", "{'a':[1,{'b':[{'c':1},{'c':3}]}]}"},
        {"{'a':" REGEX("abc", "") "}", "{'a':" REGEX("abc", "") "}"},
        {"{'a':" REGEX("[0-9][a-c]", "") "}", "{'a':" REGEX("[0-9][a-c]", "") "}"},
        {"{'a':" REGEX("a b c", "x") "}", "{'a':'abc'}"},
        {"{'a':" REGEX("(?x)a b", "") "}", "{'a':'ab'}"},
        {"{'a':" REGEX("(?:(?i)ab)cd", "") "}", "{'a':'ABcd'}"},
        {"{'a':" REGEX("mkm", "i") "}", "{'a':'M\u212am'}"},
        {"{'a':" REGEX("[\\\\]xyz]bc", "") "}", "{'a':'xbc'}"},
        {"{'a':" REGEX("[]xyz]bc", "") "}", "{'a':'xbc'}"},
        {"{'a':" REGEX("ABC", "") "}", "{'a':'xABCx'}"},
        {"{'a':" REGEX("aBC", "i") "}", "{'a':'xAbcx'}"},
        {"{'a':" REGEX("ab{0}cd", "") "}", "{'a':'acd'}"},
        {"{'a':" REGEX("ab|[0-9]", "") "}", "{'a':'7'}"},
        {"{'a':" REGEX("^[a-c]+$", "m") "}", "{'a':'7\\nabc'}"},
        {"{'a':" REGEX("^[0-9]{2}", "") "}", "{'a':['xx','77']}"},
        {"{'a':" REGEX("k[0-9]", "i") "}", "{'a':'\u212a7'}"},
        {"{'a':{'$gte':{'$date':{'$numberLong':'-5'}}}}", "{'a':{'$date':{'$numberLong':'3'}}}"},
        {"{'a':{'$gte':'abcdefgh1'}}", "{'a':'abcdefgh2'}"},
        {"{'a':{'$lt':'abcdefgh2'}}", "{'a':'abcdefgh1'}"},
        {"{'a':{'$gte':{'$numberDouble':'0.0'}}}", "{'a':{'$numberDouble':'-0.0'}}"},
        {"{'a':{'$gt':{'$numberLong':'9007199254740992'}}}",
         "{'a':{'$numberLong':'9007199254740993'}}"},
        {"{'a':{'$gte':5,'$lt':9}}", "{'a':[1,10]}"}, /* by two elements */
        {"{'a':{'$eq':{'$numberDecimal':'0.5'}}}", "{'a':0.5}"},
        {"{'a':0.5}", "{'a':{'$numberDecimal':'0.50'}}"},
        {"{'a':{'$not':{'$lt':5}}}", "{}"},
        {"{'a':{'$not':{'$lt':5}}}", "{'a':'x'}"},
        {"{'a':{'$ne':1}}", "{'a':{'$numberDecimal':'1.1'}}"},
        {"{'$nor':[{'a':{'$gt':5}},{'b':1}]}", "{'a':5,'b':2}"},
        {"{'a':{'$not':{'$elemMatch':{'$gt':5}}}}", "{'a':7}"},
        {"{'a':{'$exists':false}}", "{'b':1}"},
        {"{'a.b':{'$exists':false}}", "{'a':[1]}"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        topic_index index;
        holder one;
        size_t told = 0;
        tw_bson doc = bson_text(&arena, samples[i].doc);
        assert_int_equal(topic_index_init(&index, SEED), TW_OK);
        assert_true(join(&index, &one, samples[i].filter));
        if (check(&index, &one, 1, doc, (tw_bson){0}, &told) != 1) {
            fail_msg("%s does not match %s", samples[i].filter, samples[i].doc);
        }
        assert_int_equal(check(&index, &one, 1, (tw_bson){0}, doc, &told), 1);
        leave(&index, &one);
        topic_index_fini(&index);
    }
}

/* What the index is for: documents that do not concern a part are not held against its filter. */
static void test_topic_index_each_rule_leaves_others_out(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *doc;
    } samples[] = {
        {"{'a':1}", "{'a':2}"},
        {"{'a':null}", "{'a':1}"},
        {"{'a':{'$gte':5,'$lt':9}}", "{'a':4}"},
        {"{'a':{'$gte':5,'$lt':9}}", "{'a':[10,11]}"},
        {"{'a':{'$gt':'m'}}", "{'a':'abc'}"},
        {"{'a':{'$gt':'m'}}", "{'a':7}"},
        {"{'a':{'$lte':{'$date':{'$numberLong':'5'}}}}", "{'a':{'$date':{'$numberLong':'6'}}}"},
        {"{'a':{'$lte':{'$oid':'00000000000000000000000a'}}}",
         "{'a':{'$oid':'00000000000000000000000b'}}"},
        {"{'a':{'$in':[1,2,'x',null]}}", "{'a':3}"},
        {"{'$or':[{'a':1},{'b':{'$gt':5}}]}", "{'a':2,'b':4}"},
        {"{'a':{'$regex':'hello.*[0-9]'}}", "{'a':'help 5'}"},
        {"{'a':{'$regex':'hello|world','$options':'i'}}", "{'a':'word'}"},
        {"{'a':{'$regex':'^[0-9]{3}'}}", "{'a':'abc'}"},
        {"{'a':{'$regex':'[0-9]{3}'}}", "{'a':'77'}"},
        {"{'a':{'$exists':true}}", "{'b':1}"},
        {"{'a':{'$exists':false}}", "{'a':1}"},
        {"{'a':{'$type':['string','null']}}", "{'a':1}"},
        {"{'a':{'$size':2}}", "{'a':[1]}"},
        {"{'a':{'$elemMatch':{'b':5,'c':{'$ne':1}}}}", "{'a':[{'b':6}]}"},
        {"{'a':{'$elemMatch':{'$gt':5}}}", "{'a':[1,2]}"},
        {"{'a':{'$all':[1,2]}}", "{'a':[3]}"},
        {"{'a':{'$not':{'$lt':5}}}", "{'a':4}"},
        {"{'a':{'$ne':1}}", "{'a':[0,1]}"},
        {"{'a':{'$nin':[1,'x']}}", "{'a':'x'}"},
        {"{'$nor':[{'a':1},{'b':'x'}]}", "{'b':'x'}"},
        {"{'a':{'$not':{'$type':'string'}}}", "{'a':'x'}"},
    };
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        topic_index index;
        holder one;
        tw_bson doc = bson_text(&arena, samples[i].doc);
        assert_int_equal(topic_index_init(&index, SEED), TW_OK);
        assert_true(join(&index, &one, samples[i].filter));
        if (find(&index, doc, doc) != 0) {
            fail_msg("%s was told of %s", samples[i].filter, samples[i].doc);
        }
        leave(&index, &one);
        topic_index_fini(&index);
    }
}

static void test_topic_index_of_many_ranges_few_are_visited(void **state)
{
    (void)state;
    enum { MANY = 400 };
    static holder all[MANY];
    topic_index index;
    assert_int_equal(topic_index_init(&index, SEED), TW_OK);
    for (int i = 0; i < MANY; i++) {
        assert_true(join(&index, &all[i], TEXT("{'a':{'$gt':%d,'$lt':%d}}", 2 * i, 2 * i + 2)));
    }
    for (int i = 0; i < MANY; i++) {
        size_t told = 0;
        tw_bson doc = bson_text(&arena, TEXT("{'a':%d}", 2 * i + 1));
        assert_int_equal(check(&index, all, MANY, doc, (tw_bson){0}, &told), 1);
        assert_int_equal(told, 1);
    }
    for (int i = 0; i < MANY; i++) {
        leave(&index, &all[i]);
    }
    topic_index_fini(&index);
}

/* Ranges of every width that come and go: exactly those that hold the value are told. */
static void test_topic_index_ranges_come_and_go(void **state)
{
    (void)state;
    enum { MANY = 200, TURNS = 2000 };
    static holder all[MANY];
    topic_index index;
    assert_int_equal(topic_index_init(&index, SEED), TW_OK);
    for (int i = 0; i < MANY + TURNS; i++) {
        holder *at = &all[i < MANY ? (unsigned)i : draw(MANY)];
        unsigned low = draw(300);
        if (i >= MANY) {
            size_t told = 0;
            leave(&index, at);
            assert_true(join(&index, at, "{'b':1}"));
            tw_bson doc = bson_text(&arena, TEXT("{'a':%u.5}", draw(300)));
            size_t matched = check(&index, all, MANY, doc, (tw_bson){0}, &told);
            assert_int_equal(matched, told);
            leave(&index, at);
        }
        assert_true(join(&index, at, TEXT("{'a':{'$gte':%u,'$lt':%u}}", low, low + draw(90) + 1)));
    }
    for (int i = 0; i < MANY; i++) {
        leave(&index, &all[i]);
    }
    topic_index_fini(&index);
}

/* Over the paths of a collection, and over the entries of a filter: scanned, and told as well. */
static void test_topic_index_beyond_its_bounds_still_tells(void **state)
{
    (void)state;
    enum { MANY = TW_TOPIC_PATHS_MAX + 20 };
    static holder all[MANY];
    topic_index index;
    size_t told = 0;
    assert_int_equal(topic_index_init(&index, SEED), TW_OK);
    for (int i = 0; i < MANY - 2; i++) {
        const char *form = i % 2 == 0 ? "{'f%d':1}" : "{'f%d':{'$ne':1}}";
        const char *number = strstr(form, "%d");
        assert_true(
            join(&index, &all[i], TEXT("%.*s%d%s", (int)(number - form), form, i, number + 2)));
    }
    const char *list = "";
    for (int i = 0; i < TW_TOPIC_NEEDS_MAX - 1; i++) {
        list = TEXT("%s%d,", list, i);
    }
    const char *in = TEXT("{'f0':{'$in':[%s9]}}", list);
    assert_true(join(&index, &all[MANY - 2], in));
    assert_true(join(&index, &all[MANY - 1], "{'$or':[{'f0':1},{'late':1}]}"));
    for (int i = 0; i < MANY - 2; i += 2) {
        tw_bson doc = bson_text(&arena, TEXT("{'f%d':1}", i));
        assert_true(check(&index, all, MANY, doc, (tw_bson){0}, &told) > 1);
    }
    assert_true(check(&index, all, MANY, bson_text(&arena, "{'late':1}"), (tw_bson){0}, &told) > 0);
    for (int i = 0; i < MANY; i++) {
        leave(&index, &all[i]);
    }
    assert_int_equal(index.collections.count, 0);
    topic_index_fini(&index);
}

static void test_topic_index_without_memory_changes_nothing(void **state)
{
    (void)state;
    static const char *const filters[] = {
        "{'a':1}",
        "{'b':{'$gte':5,'$lt':9}}",
        "{'a':{'$in':[1,2,'x']}}",
        "{'$or':[{'c':{'$regex':'hello'}},{'d':{'$gt':1}}]}",
        "{'a':{'$ne':5},'e':{'$nin':[1,2]}}",
        "{'c':{'$regex':'[0-9]{3}'},'a':{'$ne':7}}",
        "{'f':{'$elemMatch':{'g':{'$gt':{'$numberDecimal':'1'}}}}}",
    };
    static holder all[TW_COUNT(filters)];
    topic_index index;
    tw_bson doc = bson_text(&arena, "{'a':1,'b':6,'c':'hello 777','d':2,'f':[{'g':2}]}");
    size_t told = 0;
    assert_int_equal(topic_index_init(&index, SEED), TW_OK);
    for (size_t count = 0;
         count < TW_COUNT(filters);) { /* one more each time, at last with memory */
        for (uint64_t nth = 1;; nth++) {
            tw_bson filter = bson_text(&arena, filters[count]);
            holder *at = &all[count];
            *at = (holder){.filter = filters[count], .part = {.db = "main", .name = "x"}};
            assert_int_equal(query_compile(filter, &at->part.filter, NULL), TW_OK);
            at->member.topic = &owner;
            at->member.part = &at->part;
            at->member.rendering = at;
            tw_alloc_fail_at(nth);
            tw_err err = topic_index_add(&index, &at->member);
            tw_alloc_fail_at(0);
            assert_true(err == TW_OK || err == TW_E_NO_MEMORY);
            if (err == TW_OK) {
                count++;
                break;
            }
            query_free(&at->part.filter);
            assert_int_equal(check(&index, all, count, doc, (tw_bson){0}, &told), count);
            assert_true(nth < 500);
        }
    }
    for (size_t i = 0; i < TW_COUNT(filters); i++) {
        leave(&index, &all[i]);
    }
    assert_int_equal(index.collections.count, 0);
    topic_index_fini(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topic_index_random_filters_are_told_of_all_they_match),
        cmocka_unit_test(test_topic_index_each_rule_tells_of_a_match),
        cmocka_unit_test(test_topic_index_each_rule_leaves_others_out),
        cmocka_unit_test(test_topic_index_of_many_ranges_few_are_visited),
        cmocka_unit_test(test_topic_index_ranges_come_and_go),
        cmocka_unit_test(test_topic_index_beyond_its_bounds_still_tells),
        cmocka_unit_test(test_topic_index_without_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
