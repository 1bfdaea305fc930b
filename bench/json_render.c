/* json_render.c - how much faster is our JSON writer than libbson's, and our reader?
 *
 *   json_render [rounds]
 *
 * One run, both sides in turn, on the same document of 289 bytes; the median of the rounds counts.
 * Goal G12: the writer at least 10 times libbson's. Exit 1 when it is not. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <bson/bson.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#include "bench/bench.h"

enum { ROUNDS = 9, ROUNDS_MAX = 1001, DOCS_OURS = 200000, DOCS_THEIRS = 20000, GOAL = 10 };

static tw_bson sample(tw_buf *out)
{
    static const uint8_t oid[12] = {0x5f, 0x8d, 0x0c, 0x2e, 1, 2, 3, 4, 5, 6, 7, 8};
    tw_bson_builder b;
    tw_bson_begin(&b, out);
    tw_bson_add_oid(&b, TW_STR("_id"), oid);
    tw_bson_add_str(&b, TW_STR("title"), TW_STR("Three rooms with a view of the harbour"));
    tw_bson_add_i64(&b, TW_STR("proj_id"), 7);
    tw_bson_add_i64(&b, TW_STR("views"), 129417);
    tw_bson_add_double(&b, TW_STR("price"), 1249.5);
    tw_bson_add_bool(&b, TW_STR("active"), true);
    tw_bson_add_date(&b, TW_STR("created"), 1700000000123);
    tw_bson_open_doc(&b, TW_STR("address"));
    tw_bson_add_str(&b, TW_STR("street"),
                    TW_STR("Lange Stra\xc3\x9f"
                           "e 12"));
    tw_bson_add_str(&b, TW_STR("city"), TW_STR("Bremen"));
    tw_bson_close(&b);
    tw_bson_open_array(&b, TW_STR("tags"));
    tw_bson_add_str(&b, TW_STR(""), TW_STR("new"));
    tw_bson_add_str(&b, TW_STR(""), TW_STR("garden"));
    tw_bson_close(&b);
    tw_bson_add_null(&b, TW_STR("agent"));
    tw_bson_add_i64(&b, TW_STR("seqno"), (int64_t)1 << 50);
    tw_bson_add_str(&b, TW_STR("owner"), TW_STR("someone.with.a.name@example.org"));
    return tw_bson_end(&b);
}

/* Documents a second of each round; 0 where something failed. */
static double write_ours(tw_bson doc, tw_buf *out)
{
    double begin = now_s();
    for (int i = 0; i < DOCS_OURS; i++) {
        tw_buf_clear(out);
        tw_json_write(out, doc);
    }
    return out->err == TW_OK ? (double)DOCS_OURS / (now_s() - begin) : 0;
}

static double write_theirs(tw_bson doc)
{
    bson_t same;
    if (!bson_init_static(&same, doc.ptr, doc.len)) {
        return 0;
    }
    double begin = now_s();
    for (int i = 0; i < DOCS_THEIRS; i++) {
        char *text = bson_as_relaxed_extended_json(&same, NULL);
        bson_free(text);
    }
    return (double)DOCS_THEIRS / (now_s() - begin);
}

static double read_ours(tw_str text)
{
    tw_arena arena;
    tw_arena_init(&arena, TW_DOCUMENT_MAX);
    tw_err err = TW_OK;
    double begin = now_s();
    for (int i = 0; i < DOCS_THEIRS && err == TW_OK; i++) {
        tw_bson doc;
        tw_arena_reset(&arena);
        err = tw_json_read(&arena, text, TW_DEPTH_CLIENT_MAX, &doc, NULL);
    }
    double took = now_s() - begin;
    tw_arena_fini(&arena);
    return err == TW_OK ? (double)DOCS_THEIRS / took : 0;
}

static double read_theirs(tw_str text)
{
    double begin = now_s();
    for (int i = 0; i < DOCS_THEIRS; i++) {
        bson_t *doc = bson_new_from_json((const uint8_t *)text.ptr, (ssize_t)text.len, NULL);
        if (doc == NULL) {
            return 0;
        }
        bson_destroy(doc);
    }
    return (double)DOCS_THEIRS / (now_s() - begin);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

int main(int argc, char **argv)
{
    static double rates[4][ROUNDS_MAX];
    uint64_t rounds = ROUNDS;
    if (argc > 1 && (tw_parse_u64(tw_str_of(argv[1]), ROUNDS_MAX, &rounds) != TW_OK || !rounds)) {
        fprintf(stderr, "usage: json_render [rounds]\n");
        return 2;
    }
    tw_buf bytes, text;
    tw_buf_init(&bytes, TW_DOCUMENT_MAX);
    tw_buf_init(&text, TW_DOCUMENT_MAX);
    tw_bson doc = sample(&bytes);
    for (size_t i = 0; i < rounds; i++) {
        rates[0][i] = write_ours(doc, &text);
        rates[1][i] = write_theirs(doc);
        rates[2][i] = read_ours(tw_buf_str(&text));
        rates[3][i] = read_theirs(tw_buf_str(&text));
    }
    double rate[4];
    for (size_t i = 0; i < 4; i++) {
        rate[i] = median(rates[i], rounds);
    }
    printf("what,bson_bytes,json_bytes,ours_per_s,libbson_per_s,ratio\n");
    printf("write,%zu,%zu,%.0f,%.0f,%.1f\n", doc.len, text.len, rate[0], rate[1],
           rate[0] / rate[1]);
    printf("read,%zu,%zu,%.0f,%.0f,%.1f\n", doc.len, text.len, rate[2], rate[3], rate[2] / rate[3]);
    tw_buf_fini(&bytes);
    tw_buf_fini(&text);
    return rate[0] >= (double)GOAL * rate[1] && rate[2] > 0 ? 0 : 1;
}
