/* local_copy.c - see local_copy.h. */
#include "cli/local_copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "protocol/json.h"
#include "protocol/limits.h"

enum { SLOTS_FIRST = 1024 };
#define COPY_BYTES_MAX ((size_t)16 << 30)

void local_copy_init(local_copy *copy)
{
    *copy = (local_copy){0};
    tw_arena_init(&copy->memory, COPY_BYTES_MAX);
}

void local_copy_fini(local_copy *copy)
{
    tw_arena_fini(&copy->memory);
    tw_free(copy->records);
    tw_free(copy->slots);
}

static bool fail(local_copy *copy, const char *what)
{
    tw_format(copy->why, sizeof copy->why, "%s", what);
    return false;
}

static uint32_t *slot_of(const local_copy *copy, tw_str key)
{
    size_t mask = copy->slots_count - 1;
    size_t at = (size_t)tw_hash(key.ptr, key.len, 0) & mask;
    while (copy->slots[at] != 0 && !tw_str_equal(copy->records[copy->slots[at] - 1].key, key)) {
        at = (at + 1) & mask;
    }
    return &copy->slots[at];
}

static bool make_room(local_copy *copy)
{
    if (copy->count == copy->cap) {
        size_t cap = copy->cap == 0 ? SLOTS_FIRST : copy->cap * 2;
        local_record *grown = tw_realloc(copy->records, cap * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        copy->records = grown;
        copy->cap = cap;
    }
    if ((copy->count + 1) * 2 <= copy->slots_count) {
        return true;
    }
    size_t count = copy->slots_count == 0 ? 2 * SLOTS_FIRST : copy->slots_count * 2;
    uint32_t *grown = tw_alloc_zero(count, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    tw_free(copy->slots);
    copy->slots = grown;
    copy->slots_count = count;
    for (size_t i = 0; i < copy->count; i++) {
        *slot_of(copy, copy->records[i].key) = (uint32_t)i + 1;
    }
    return true;
}

/* The key and its JSON text; the text is in scratch. */
static bool read_key(tw_arena *scratch, tw_bson_value value, tw_key *key, tw_buf *text)
{
    bool is_key = value.type != 0 && tw_key_of_value(scratch, value, key) == TW_OK;
    if (is_key) {
        tw_json_write_key(text, *key);
    }
    return is_key && text->err == TW_OK;
}

static bool put_line(local_copy *copy, tw_key key, tw_str key_text, int64_t version, tw_str line)
{
    if (!make_room(copy)) {
        return fail(copy, "no memory");
    }
    uint32_t *slot = slot_of(copy, key_text);
    if (*slot == 0) {
        tw_str own = tw_arena_str(&copy->memory, key_text);
        if (own.ptr == NULL) {
            return fail(copy, "no memory");
        }
        copy->records[copy->count] = (local_record){.key = own, .place = tw_sync_place(key)};
        *slot = (uint32_t)++copy->count;
    }
    local_record *record = &copy->records[*slot - 1];
    record->version = version;
    record->mark = tw_sync_mark(key, version);
    record->line = tw_arena_str(&copy->memory, line);
    record->gone = false;
    return record->line.ptr != NULL || fail(copy, "no memory");
}

bool local_copy_put(local_copy *copy, tw_bson_value value, int64_t version, tw_bson doc)
{
    tw_arena scratch;
    tw_buf text, line;
    tw_key key;
    tw_arena_init(&scratch, 65536);
    tw_buf_init(&text, 65536);
    tw_buf_init(&line, 2 * (size_t)TW_ACTOR_MESSAGE_MAX);
    bool done = read_key(&scratch, value, &key, &text) || fail(copy, "a key cannot be read");
    if (done) {
        tw_buf_add_str(&line, TW_STR("{\"key\":"));
        tw_buf_add_str(&line, tw_buf_str(&text));
        tw_buf_format(&line, ",\"version\":%lld", (long long)version);
        if (doc.len > 0) {
            tw_buf_add_str(&line, TW_STR(",\"doc\":"));
            tw_json_write(&line, doc);
        }
        tw_buf_add_byte(&line, '}');
        done = line.err == TW_OK
                   ? put_line(copy, key, tw_buf_str(&text), version, tw_buf_str(&line))
                   : fail(copy, "a record is too large");
    }
    tw_buf_fini(&line);
    tw_buf_fini(&text);
    tw_arena_fini(&scratch);
    return done;
}

void local_copy_remove(local_copy *copy, tw_bson_value value)
{
    tw_arena scratch;
    tw_buf text;
    tw_key key;
    tw_arena_init(&scratch, 65536);
    tw_buf_init(&text, 65536);
    if (copy->slots_count > 0 && read_key(&scratch, value, &key, &text)) {
        uint32_t index = *slot_of(copy, tw_buf_str(&text));
        if (index != 0) {
            copy->records[index - 1].gone = true;
        }
    }
    tw_buf_fini(&text);
    tw_arena_fini(&scratch);
}

static bool read_line(local_copy *copy, tw_arena *scratch, tw_str line, bool first)
{
    tw_bson record;
    tw_str cause = {"", 0};
    tw_key key;
    tw_buf text;
    tw_arena_reset(scratch);
    if (tw_json_read(scratch, line, TW_DEPTH_MAX, &record, &cause) != TW_OK) {
        tw_format(copy->why, sizeof copy->why, "%.*s", (int)cause.len, cause.ptr);
        return false;
    }
    if (first && tw_bson_get(record, TW_STR("since")).type == TW_BSON_ARRAY) {
        return true; /* where the last sync ended: this one finds out anew */
    }
    int64_t version = tw_bson_get_i64_or(record, TW_STR("version"), -1);
    tw_buf_init(&text, 65536);
    bool done = version >= 0 && read_key(scratch, tw_bson_get(record, TW_STR("key")), &key, &text);
    if (done) {
        done = put_line(copy, key, tw_buf_str(&text), version, line);
    } else {
        (void)fail(copy, "a line is {\"key\":K,\"version\":V,\"doc\":{...}}");
    }
    tw_buf_fini(&text);
    return done;
}

bool local_copy_read(local_copy *copy, const char *path)
{
    FILE *in = fopen(path, "r");
    if (in == NULL) {
        return errno == ENOENT || fail(copy, "it cannot be read");
    }
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    tw_arena scratch;
    uint64_t number = 0;
    bool done = true;
    tw_arena_init(&scratch, 4 * (size_t)TW_ACTOR_MESSAGE_MAX);
    while (done && (len = getline(&line, &size, in)) > 0) {
        len -= line[len - 1] == '\n' ? 1 : 0;
        number++;
        if (len > 0 && !read_line(copy, &scratch, (tw_str){line, (size_t)len}, number == 1)) {
            char cause[128];
            tw_format(cause, sizeof cause, "%s", copy->why);
            tw_format(copy->why, sizeof copy->why, "line %llu: %s", (unsigned long long)number,
                      cause);
            done = false;
        }
    }
    done = done && (!ferror(in) || fail(copy, "it cannot be read whole"));
    tw_arena_fini(&scratch);
    free(line);
    (void)fclose(in);
    return done;
}

bool local_copy_write(local_copy *copy, const char *path, tw_str since)
{
    char beside[4096];
    if (tw_format(beside, sizeof beside, "%s.new", path) + 1 >= sizeof beside) {
        return fail(copy, "its name is too long");
    }
    FILE *out = fopen(beside, "w");
    if (out == NULL) {
        return fail(copy, "it cannot be written");
    }
    fprintf(out, "{\"since\":%.*s}\n", (int)since.len, since.ptr);
    for (size_t i = 0; i < copy->count; i++) {
        const local_record *record = &copy->records[i];
        if (!record->gone) {
            fwrite(record->line.ptr, 1, record->line.len, out);
            fputc('\n', out);
        }
    }
    bool done = fflush(out) == 0 && fsync(fileno(out)) == 0 && !ferror(out);
    done = fclose(out) == 0 && done && rename(beside, path) == 0;
    return done || fail(copy, "it cannot be written whole");
}
