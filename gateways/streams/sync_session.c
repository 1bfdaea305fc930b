/* sync_session.c - see sync_session.h. */
#include "gateways/streams/sync_session.h"

#include "broker/position.h"
#include "broker/topic_query.h"

enum {
    SYNC_SESSION_MAGIC = 0x57e5510e,
    SPLIT_BITS = 4,   /* a range is split into 16 */
    MARK_DIGITS = 16, /* of a sum as text */
};

typedef struct asked_range {
    uint32_t range;
    tw_mark sum; /* the client's */
} asked_range;

/* One collection. */
typedef struct sync_part {
    char name[TW_NAME_MAX + 1];
    manifest *have;          /* own; NULL: none given */
    manifest_ranges *ranges; /* own; NULL until they are summed */
    bool ranged;
    unsigned bits;     /* of the sums that the client owes, or gave */
    asked_range *sums; /* own; those owed, in order */
    size_t owed, given;
    uint32_t *differ; /* own; found to differ: first those to split, then those to list */
    size_t split, list, told;
} sync_part;

typedef struct due_doc {
    uint64_t n;
    uint32_t part;
    bool insert;
} due_doc;

struct sync_session {
    uint32_t magic;
    sync_want want;
    const catalog *catalog; /* borrow */
    const rights *rights;   /* borrow; NULL: there is no auth */
    tw_bson asked;          /* borrow: the first message */
    char db[TW_NAME_MAX + 1];
    tw_arena arena; /* own; of the query */
    tw_bson query;
    sync_part parts[TW_COLLECTIONS_PER_TOPIC_MAX];
    size_t parts_count;
    uint8_t order[TW_COLLECTIONS_PER_TOPIC_MAX]; /* part of the query -> parts */
    bool summing, summed;
    uint64_t srv, cut, after, records;
    bool begun, complete;
    position_set at;
    due_doc *due; /* own; of the page of keys in hand */
    size_t due_count, due_at;
    tw_item_one_id rows[TW_PAGE_ROWS_MAX]; /* asked for */
    size_t remove_part, remove_at, tell_part;
    sync_figures figures;
};

/* ---- life ---- */

tw_err sync_session_new(sync_session **out, const catalog *known, const rights *whose,
                        tw_bson asked, tw_str db)
{
    TW_ASSERT(db.len <= TW_NAME_MAX);
    sync_session *self = tw_alloc_zero(1, sizeof *self);
    *out = self;
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = SYNC_SESSION_MAGIC;
    self->catalog = known;
    self->rights = whose;
    self->asked = asked;
    tw_format(self->db, sizeof self->db, "%.*s", (int)db.len, db.ptr);
    tw_arena_init(&self->arena, 4 * (size_t)TW_TOPIC_QUERY_MAX);
    self->due = tw_alloc(TW_MANIFEST_PAGE_MAX * sizeof *self->due);
    if (self->due == NULL) {
        sync_session_free(out);
        return TW_E_NO_MEMORY;
    }
    return TW_OK;
}

tw_err sync_session_of_query(sync_session **out, const catalog *known, tw_bson canonical)
{
    tw_err err = sync_session_new(out, known, NULL, (tw_bson){0}, TW_STR(""));
    if (err != TW_OK) {
        return err;
    }
    sync_session *self = *out;
    tw_bson_iter iter;
    self->query = tw_arena_bson(&self->arena, canonical);
    err = self->query.ptr == NULL ? TW_E_NO_MEMORY : TW_OK;
    tw_bson_iter_init(&iter, tw_bson_get_doc(canonical, TW_STR("c")));
    while (err == TW_OK && tw_bson_iter_next(&iter)) {
        tw_bson item = tw_bson_value_doc(iter.value);
        tw_str name = tw_bson_get_str(item, TW_STR("n"));
        sync_part *part = &self->parts[self->parts_count];
        TW_ASSERT(self->parts_count < TW_COLLECTIONS_PER_TOPIC_MAX && name.len <= TW_NAME_MAX);
        tw_format(part->name, sizeof part->name, "%.*s", (int)name.len, name.ptr);
        self->order[self->parts_count] = (uint8_t)self->parts_count;
        err = manifest_new(&part->have, TW_MANIFEST_BYTES_MAX);
        self->parts_count += err == TW_OK ? 1 : 0;
    }
    if (err != TW_OK) {
        sync_session_free(out);
    }
    return err;
}

void sync_session_free(sync_session **out)
{
    sync_session *self = *out;
    *out = NULL;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->magic == SYNC_SESSION_MAGIC);
    for (size_t i = 0; i < self->parts_count; i++) {
        manifest_free(&self->parts[i].have);
        manifest_ranges_free(&self->parts[i].ranges);
        tw_free(self->parts[i].sums);
        tw_free(self->parts[i].differ);
    }
    tw_free(self->due);
    tw_arena_fini(&self->arena);
    self->magic = 0;
    tw_free(self);
}

/* ---- what the client says ---- */

static sync_part *part_named(sync_session *self, tw_str name)
{
    for (size_t i = 0; i < self->parts_count; i++) {
        if (tw_str_equal(tw_str_of(self->parts[i].name), name)) {
            return &self->parts[i];
        }
    }
    return NULL;
}

/* The part of a collection, made in the first turn. */
static tw_err part_for(sync_session *self, tw_str name, sync_part **out, broker_why *why)
{
    char shown[BROKER_SHOWN_MAX];
    broker_show(name, shown);
    *out = part_named(self, name);
    if (*out != NULL) {
        return TW_OK;
    }
    if (self->query.len > 0) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "\"%s\" was not named at the beginning", shown);
    }
    if (catalog_check_name(name) != TW_OK) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "\"%s\" is not a collection's name", shown);
    }
    if (self->parts_count == TW_COLLECTIONS_PER_TOPIC_MAX) {
        return broker_refuse(why, TW_E_TOO_MANY, "over %d collections",
                             TW_COLLECTIONS_PER_TOPIC_MAX);
    }
    *out = &self->parts[self->parts_count];
    tw_format((*out)->name, sizeof(*out)->name, "%.*s", (int)name.len, name.ptr);
    tw_err err = manifest_new(&(*out)->have, TW_MANIFEST_BYTES_MAX);
    self->parts_count += err == TW_OK ? 1 : 0;
    return err;
}

static void kept(const sync_session *self, size_t *ids, size_t *bytes)
{
    *ids = 0;
    *bytes = 0;
    for (size_t i = 0; i < self->parts_count; i++) {
        *ids += manifest_count(self->parts[i].have);
        *bytes += manifest_bytes(self->parts[i].have);
    }
}

static tw_err add_id(sync_part *part, tw_bson_value id, bool is_name, tw_bson_value version,
                     broker_why *why)
{
    int64_t number = -1;
    bool is_known = version.type != TW_BSON_NULL;
    if (is_known && (!tw_bson_value_i64(version, &number) || number < 0)) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "manifests.%s: a version is a whole number, or null where it is not "
                             "known",
                             part->name);
    }
    tw_err err = manifest_add(part->have, id, is_name, number);
    char shown[BROKER_SHOWN_MAX];
    broker_show(id.type == TW_BSON_STRING ? tw_bson_value_str(id) : TW_STR(""), shown);
    if (err == TW_E_BAD_DOCUMENT || err == TW_E_TOO_BIG) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "manifests.%s: ids are text, numbers, dates, ObjectIds of at most %d "
                             "bytes",
                             part->name, TW_KEY_MAX);
    }
    if (err == TW_E_CONFLICT) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "manifests.%s: the id %s is given twice",
                             part->name, shown);
    }
    if (err != TW_OK) {
        return err;
    }
    if (part->ranges != NULL &&
        !manifest_last_in(part->have, manifest_ranges_wants, part->ranges)) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "manifests.%s: the id %s lies in none of the ranges that are listed",
                             part->name, shown);
    }
    return TW_OK;
}

/* {"id": version, ...} or [[id, version], ...] */
static tw_err read_manifest(sync_session *self, sync_part *part, tw_bson_value value,
                            broker_why *why)
{
    bool is_list = value.type == TW_BSON_ARRAY;
    tw_bson_iter iter;
    if (!is_list && value.type != TW_BSON_DOCUMENT) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "manifests.%s: takes {id: version} or [[id, version], ...]",
                             part->name);
    }
    if (part->ranged && part->ranges == NULL) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "%s is given by ranges; its ids are listed when they are asked for",
                             part->name);
    }
    size_t ids, bytes;
    kept(self, &ids, &bytes);
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(value)); tw_bson_iter_next(&iter);) {
        tw_bson_value id = iter.value;
        tw_bson_value version = iter.value;
        tw_str name = iter.name;
        tw_buf text;
        tw_buf_init(&text, TW_MESSAGE_MAX * 2);
        tw_err err = TW_OK;
        if (is_list) {
            tw_bson pair = tw_bson_value_doc(iter.value);
            bool is_pair = iter.value.type == TW_BSON_ARRAY && tw_bson_count(pair) == 2;
            id = is_pair ? tw_bson_get(pair, TW_STR("0")) : (tw_bson_value){0};
            version = is_pair ? tw_bson_get(pair, TW_STR("1")) : (tw_bson_value){0};
            if (!is_pair) {
                err = broker_refuse(why, TW_E_BAD_MESSAGE, "manifests.%s: a pair is [id, version]",
                                    part->name);
            }
        } else { /* the name as a value */
            uint32_t len = (uint32_t)name.len + 1;
            tw_buf_add(&text, &len, sizeof len);
            tw_buf_add_str(&text, name);
            tw_buf_add_byte(&text, '\0');
            err = text.err;
            id = (tw_bson_value){TW_BSON_STRING, (const uint8_t *)text.ptr, text.len};
        }
        if (err == TW_OK) {
            err = ++ids > TW_MANIFEST_IDS_MAX || bytes > TW_MANIFEST_BYTES_MAX
                      ? TW_E_TOO_MANY
                      : add_id(part, id, !is_list, version, why);
        }
        tw_buf_fini(&text);
        if (err != TW_OK) {
            return err;
        }
    }
    kept(self, &ids, &bytes);
    return bytes > TW_MANIFEST_BYTES_MAX ? TW_E_TOO_MANY : TW_OK;
}

static bool read_digits(const char *text, uint32_t *out)
{
    uint32_t value = 0;
    for (size_t i = 0; i < MARK_DIGITS / 2; i++) {
        char c = text[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                                                : 16U;
        if (digit > 15) {
            return false;
        }
        value = value << 4 | digit;
    }
    *out = value;
    return true;
}

/* The first sums of a collection: all 2^bits are owed. */
static tw_err begin_ranges(const sync_session *self, sync_part *part, int64_t bits, broker_why *why)
{
    size_t owed = 0;
    for (size_t i = 0; i < self->parts_count; i++) {
        owed += self->parts[i].owed;
    }
    if (bits < 0 || bits > TW_MANIFEST_BITS_MAX) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "ranges.%s: bits is a number from 0 to %d",
                             part->name, TW_MANIFEST_BITS_MAX);
    }
    if (manifest_count(part->have) > 0) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "%s is given by ids and by ranges", part->name);
    }
    size_t count = (size_t)1 << bits;
    if (owed + count > (size_t)1 << TW_MANIFEST_BITS_MAX) {
        return broker_refuse(why, TW_E_TOO_MANY, "over %d ranges in one sync: take fewer bits",
                             1 << TW_MANIFEST_BITS_MAX);
    }
    part->sums = tw_alloc(count * sizeof *part->sums);
    if (part->sums == NULL) {
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        part->sums[i] = (asked_range){.range = (uint32_t)i};
    }
    part->ranged = true;
    part->bits = (unsigned)bits;
    part->owed = count;
    return TW_OK;
}

/* {"bits": 8, "sums": "..."}: the next of those that are owed. */
static tw_err read_ranges(sync_session *self, sync_part *part, tw_bson_value value, broker_why *why)
{
    tw_bson spec = tw_bson_value_doc(value);
    int64_t bits =
        value.type == TW_BSON_DOCUMENT ? tw_bson_get_i64_or(spec, TW_STR("bits"), -1) : -1;
    tw_str sums =
        value.type == TW_BSON_DOCUMENT ? tw_bson_get_str(spec, TW_STR("sums")) : (tw_str){NULL, 0};
    if (sums.ptr == NULL || tw_bson_count(spec) != 2) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "ranges.%s: takes {bits: 8, sums: \"hex digits\"}", part->name);
    }
    if (!part->ranged && self->query.len > 0) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "ranges.%s was not asked for", part->name);
    }
    tw_err err = part->ranged ? TW_OK : begin_ranges(self, part, bits, why);
    if (err != TW_OK) {
        return err;
    }
    if (bits != (int64_t)part->bits || sums.len % MARK_DIGITS != 0 ||
        sums.len / MARK_DIGITS > part->owed - part->given) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "ranges.%s: %zu sums of %d digits are due, with bits: %u", part->name,
                             part->owed - part->given, MARK_DIGITS, part->bits);
    }
    for (size_t i = 0; i < sums.len; i += MARK_DIGITS) {
        tw_mark *sum = &part->sums[part->given++].sum;
        if (!read_digits(sums.ptr + i, &sum->high) ||
            !read_digits(sums.ptr + i + MARK_DIGITS / 2, &sum->low)) {
            return broker_refuse(why, TW_E_BAD_MESSAGE, "ranges.%s: sums are digits 0-9 and a-f",
                                 part->name);
        }
    }
    return TW_OK;
}

typedef tw_err (*read_part)(sync_session *self, sync_part *part, tw_bson_value value,
                            broker_why *why);

static tw_err read_each(sync_session *self, tw_bson message, tw_str name, read_part read,
                        broker_why *why)
{
    tw_bson_value all = tw_bson_get(message, name);
    if (all.type == 0) {
        return TW_OK;
    }
    if (all.type != TW_BSON_DOCUMENT) {
        return broker_refuse(why, TW_E_BAD_MESSAGE, "%.*s: takes {collection: ...}", (int)name.len,
                             name.ptr);
    }
    tw_bson_iter iter;
    tw_err err = TW_OK;
    for (tw_bson_iter_init(&iter, tw_bson_value_doc(all));
         err == TW_OK && tw_bson_iter_next(&iter);) {
        sync_part *part = NULL;
        err = part_for(self, iter.name, &part, why);
        if (err == TW_OK) {
            err = read(self, part, iter.value, why);
        }
    }
    return err;
}

/* ---- the query ---- */

/* What of the first message belongs to the query besides its collections. */
static bool is_of_query(const sync_session *self, tw_str name)
{
    static const char *const words[] = {"project_id", "project", "archived"};
    for (size_t i = 0; i < TW_COUNT(words); i++) {
        if (tw_str_equal(name, tw_str_of(words[i]))) {
            return true;
        }
    }
    for (size_t i = 0; i < self->catalog->count; i++) {
        const char *param = self->catalog->at[i].scope_param;
        if (param != NULL && tw_str_equal(name, tw_str_of(param))) {
            return true;
        }
    }
    return false;
}

/* What of a collection is asked for: what "collections" says of it, and the database. */
static void add_spec(tw_bson_builder *b, const sync_session *self, const sync_part *part)
{
    tw_bson specs = tw_bson_get_doc(self->asked, TW_STR("collections"));
    tw_bson spec = specs.len == 0 ? specs : tw_bson_get_doc(specs, tw_str_of(part->name));
    tw_bson_open_doc(b, tw_str_of(part->name));
    if (spec.len > 0) {
        tw_bson_add_all(b, spec);
    }
    if (spec.len == 0 || tw_bson_get(spec, TW_STR("db")).type == 0) {
        tw_bson_add_str(b, TW_STR("db"), tw_str_of(self->db));
    }
    tw_bson_close(b);
}

static tw_err make_query(sync_session *self, broker_why *why)
{
    tw_buf buf;
    tw_bson_builder b;
    tw_bson_iter iter;
    tw_buf_init(&buf, TW_TOPIC_QUERY_MAX);
    tw_bson_begin(&b, &buf);
    for (tw_bson_iter_init(&iter, self->asked); tw_bson_iter_next(&iter);) {
        if (is_of_query(self, iter.name)) {
            tw_bson_add_value(&b, iter.name, iter.value);
        }
    }
    tw_bson_open_doc(&b, TW_STR("collections"));
    for (size_t i = 0; i < self->parts_count; i++) {
        add_spec(&b, self, &self->parts[i]);
    }
    tw_bson_close(&b);
    tw_bson subscribe = tw_bson_end(&b);
    tw_err err = buf.err;
    if (err == TW_OK) {
        err = topic_query_of_subscribe(self->catalog, self->rights, &self->arena, subscribe,
                                       &self->query, why);
    }
    tw_buf_fini(&buf);
    size_t count = 0;
    tw_bson list = err == TW_OK ? tw_bson_get_doc(self->query, TW_STR("c")) : (tw_bson){0};
    for (tw_bson_iter_init(&iter, list); err == TW_OK && tw_bson_iter_next(&iter);) {
        const sync_part *part =
            part_named(self, tw_bson_get_str(tw_bson_value_doc(iter.value), TW_STR("n")));
        TW_ASSERT(part != NULL && count < TW_COLLECTIONS_PER_TOPIC_MAX);
        self->order[count++] = (uint8_t)(part - self->parts);
    }
    return err;
}

/* ---- ranges ---- */

/* Holds the client's sums against those of the log: equal ranges are done with, others are split,
 * or listed where they are small. */
static tw_err compare_ranges(sync_part *part)
{
    unsigned finest = manifest_ranges_bits(part->ranges);
    uint32_t *differ = tw_realloc(part->differ, (part->owed + 1) * sizeof *differ);
    if (differ == NULL) {
        return TW_E_NO_MEMORY;
    }
    part->differ = differ;
    part->split = part->list = part->told = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < part->owed; i++) {
            const asked_range *at = &part->sums[i];
            uint64_t count = 0;
            tw_mark sum = manifest_ranges_sum(part->ranges, part->bits, at->range, &count);
            bool is_same = sum.high == at->sum.high && sum.low == at->sum.low;
            bool is_split = part->bits < finest && count > MANIFEST_LEAF_KEYS;
            if (is_same || is_split != (pass == 0)) {
                continue;
            }
            differ[part->split + part->list] = at->range;
            part->split += is_split ? 1 : 0;
            part->list += is_split ? 0 : 1;
            if (!is_split) {
                manifest_ranges_want(part->ranges, part->bits, at->range);
            }
        }
    }
    return TW_OK;
}

/* The sums that the client owes now: of the halves of what is split. */
static tw_err owe_ranges(sync_part *part)
{
    unsigned finest = manifest_ranges_bits(part->ranges);
    unsigned below = finest - part->bits < SPLIT_BITS ? finest - part->bits : SPLIT_BITS;
    size_t width = (size_t)1 << below;
    asked_range *sums = tw_realloc(part->sums, (part->split * width + 1) * sizeof *sums);
    if (sums == NULL) {
        return TW_E_NO_MEMORY;
    }
    part->sums = sums;
    for (size_t i = 0; i < part->split; i++) {
        for (size_t k = 0; k < width; k++) {
            sums[i * width + k] =
                (asked_range){.range = (uint32_t)((part->differ[i] << below) + k)};
        }
    }
    part->owed = part->split * width;
    part->given = 0;
    part->bits += below;
    return TW_OK;
}

static tw_err compare_all(sync_session *self)
{
    bool differs = false;
    for (size_t i = 0; i < self->parts_count; i++) {
        sync_part *part = &self->parts[i];
        tw_err err = part->ranged ? compare_ranges(part) : TW_OK;
        if (err != TW_OK) {
            return err;
        }
        differs = differs || (part->ranged && part->split + part->list > 0);
    }
    self->tell_part = 0;
    bool is_empty = self->begun && self->cut == 0; /* to ask again would be to ask for now */
    self->want = differs ? SYNC_TELL : is_empty ? SYNC_REMOVES : SYNC_KEYS;
    return TW_OK;
}

bool sync_session_next_told(sync_session *self, sync_told *out)
{
    TW_ASSERT(self->want == SYNC_TELL);
    for (; self->tell_part < self->parts_count; self->tell_part++) {
        sync_part *part = &self->parts[self->tell_part];
        size_t all = part->split + part->list;
        if (!part->ranged || part->told >= all) {
            continue;
        }
        bool is_split = part->told < part->split;
        size_t left = (is_split ? part->split : all) - part->told;
        unsigned next = part->bits + SPLIT_BITS;
        unsigned finest = manifest_ranges_bits(part->ranges);
        *out = (sync_told){.part = self->tell_part,
                           .bits = part->bits,
                           .ranges = part->differ + part->told,
                           .count = left < SYNC_TOLD_MAX ? left : SYNC_TOLD_MAX,
                           .split = is_split,
                           .next_bits = next < finest ? next : finest};
        part->told += out->count;
        return true;
    }
    for (size_t i = 0; i < self->parts_count; i++) {
        if (self->parts[i].ranged && owe_ranges(&self->parts[i]) != TW_OK) {
            self->parts[i].owed = 0; /* no memory: the client's sums will be refused */
        }
    }
    self->want = SYNC_INPUT;
    return false;
}

/* ---- turns ---- */

/* The client's turn is over. */
static tw_err end_turn(sync_session *self, broker_why *why)
{
    bool is_ranged = false;
    if (self->parts_count == 0) {
        return broker_refuse(why, TW_E_BAD_MESSAGE,
                             "no collection is named: add one, such as manifests: {samples: {}}");
    }
    for (size_t i = 0; i < self->parts_count; i++) {
        const sync_part *part = &self->parts[i];
        is_ranged = is_ranged || part->ranged;
        if (part->ranged && part->given < part->owed) {
            return broker_refuse(why, TW_E_BAD_MESSAGE, "ranges.%s: %zu sums are missing",
                                 part->name, part->owed - part->given);
        }
    }
    tw_err err = self->query.len == 0 ? make_query(self, why) : TW_OK;
    if (err != TW_OK) {
        return err;
    }
    if (is_ranged && self->summed) {
        return compare_all(self);
    }
    self->summing = is_ranged;
    self->want = SYNC_KEYS;
    return TW_OK;
}

tw_err sync_session_feed(sync_session *self, tw_bson message, bool more, broker_why *why,
                         const char **hint)
{
    TW_ASSERT(self->magic == SYNC_SESSION_MAGIC);
    TW_ASSERT(self->want == SYNC_INPUT);
    tw_err err = read_each(self, message, TW_STR("ranges"), read_ranges, why);
    if (err == TW_OK) {
        err = read_each(self, message, TW_STR("manifests"), read_manifest, why);
    }
    if (err == TW_E_TOO_MANY && why->text[0] == '\0') {
        *hint = "Send \"ranges\" instead: equal ranges cost one sum.";
        return broker_refuse(why, err, "a sync lists at most %d ids, of %d bytes together",
                             TW_MANIFEST_IDS_MAX, TW_MANIFEST_BYTES_MAX);
    }
    return err == TW_OK && !more ? end_turn(self, why) : err;
}

sync_want sync_session_next(const sync_session *self)
{
    TW_ASSERT(self->magic == SYNC_SESSION_MAGIC);
    return self->want;
}

/* ---- keys ---- */

tw_msg_manifest_read sync_session_ask_keys(const sync_session *self)
{
    TW_ASSERT(self->want == SYNC_KEYS);
    return (tw_msg_manifest_read){.query = self->query, .cut = self->cut, .after = self->after};
}

/* The finest ranges: as the number of records suggests, all collections' together in a bound. */
static tw_err begin_sums(sync_session *self)
{
    size_t ranged = 0;
    for (size_t i = 0; i < self->parts_count; i++) {
        ranged += self->parts[i].ranged ? 1 : 0;
    }
    for (size_t i = 0; i < self->parts_count; i++) {
        sync_part *part = &self->parts[i];
        if (!part->ranged) {
            continue;
        }
        unsigned bits = manifest_bits_for(self->records, part->bits);
        while (bits > part->bits && ranged << bits > (size_t)2 << TW_MANIFEST_BITS_MAX) {
            bits--;
        }
        tw_err err = manifest_ranges_new(&part->ranges, bits);
        if (err != TW_OK) {
            return err;
        }
    }
    return TW_OK;
}

static void take_entry(sync_session *self, const tw_item_manifest_entry *entry)
{
    uint32_t at = self->order[entry->part];
    sync_part *part = &self->parts[at];
    if (self->summing) {
        if (part->ranged) {
            manifest_ranges_add(part->ranges, entry->key, entry->version);
        }
        return;
    }
    if (part->ranged && !manifest_ranges_wants(part->ranges, tw_sync_place(entry->key))) {
        self->figures.same++;
        return;
    }
    manifest_verdict verdict = manifest_judge(part->have, entry->key, entry->version);
    if (verdict == MANIFEST_SAME) {
        self->figures.same++;
        return;
    }
    TW_ASSERT(self->due_count < TW_MANIFEST_PAGE_MAX);
    self->due[self->due_count++] =
        (due_doc){entry->n, (uint32_t)entry->part, verdict == MANIFEST_INSERT};
}

static tw_err keys_are_read(sync_session *self)
{
    if (!self->summing) {
        self->want = SYNC_REMOVES;
        return TW_OK;
    }
    self->summing = false;
    self->summed = true;
    self->after = 0;
    self->complete = false;
    return compare_all(self);
}

tw_err sync_session_take_keys(sync_session *self, const tw_msg_manifest *answer)
{
    TW_ASSERT(self->want == SYNC_KEYS);
    if (!self->begun) {
        self->begun = true;
        self->srv = answer->srv;
        self->cut = answer->cut;
        self->records = answer->records;
        tw_err err = self->summing ? begin_sums(self) : TW_OK;
        if (err != TW_OK) {
            return err;
        }
        for (size_t i = 0; i < answer->at.count; i++) {
            tw_err raised = position_set_raise(&self->at, answer->at.at[i]);
            TW_ASSERT(raised == TW_OK); /* a vector holds no more */
        }
    }
    self->due_count = 0;
    self->due_at = 0;
    for (size_t i = 0; i < answer->entries.count; i++) {
        if (answer->entries.at[i].part >= TW_COLLECTIONS_PER_TOPIC_MAX ||
            answer->entries.at[i].key.len == 0) {
            return TW_E_INTERNAL;
        }
        take_entry(self, &answer->entries.at[i]);
    }
    self->after = answer->after;
    self->complete = answer->complete;
    if (self->due_count > 0) {
        self->want = SYNC_DOCS;
        return TW_OK;
    }
    return self->complete ? keys_are_read(self) : TW_OK;
}

/* ---- documents ---- */

/* How many of those due, from the next on, are of one part. */
static size_t run_of_part(const sync_session *self)
{
    size_t count = 0;
    while (self->due_at + count < self->due_count && count < TW_PAGE_ROWS_MAX &&
           self->due[self->due_at + count].part == self->due[self->due_at].part) {
        count++;
    }
    return count;
}

tw_msg_manifest_docs sync_session_ask_docs(sync_session *self)
{
    TW_ASSERT(self->want == SYNC_DOCS);
    size_t count = run_of_part(self);
    for (size_t i = 0; i < count; i++) {
        self->rows[i].id = self->due[self->due_at + i].n;
    }
    return (tw_msg_manifest_docs){.query = self->query,
                                  .cut = self->cut,
                                  .part = self->due[self->due_at].part,
                                  .rows = {self->rows, count}};
}

size_t sync_session_docs_part(const sync_session *self)
{
    TW_ASSERT(self->due_at < self->due_count);
    return self->order[self->due[self->due_at].part];
}

bool sync_session_is_insert(const sync_session *self, size_t i)
{
    TW_ASSERT(self->due_at + i < self->due_count);
    return self->due[self->due_at + i].insert;
}

void sync_session_docs_told(sync_session *self, size_t count)
{
    TW_ASSERT(self->want == SYNC_DOCS);
    TW_ASSERT(count <= self->due_count - self->due_at);
    for (size_t i = 0; i < count; i++) {
        bool is_insert = self->due[self->due_at++].insert;
        self->figures.inserted += is_insert ? 1 : 0;
        self->figures.updated += is_insert ? 0 : 1;
    }
    if (self->due_at < self->due_count) {
        return;
    }
    self->want = self->complete ? SYNC_REMOVES : SYNC_KEYS;
}

/* ---- removes and the rest ---- */

bool sync_session_next_removed(sync_session *self, size_t *part, tw_bson_value *id)
{
    TW_ASSERT(self->want == SYNC_REMOVES);
    for (; self->remove_part < self->parts_count; self->remove_part++) {
        if (manifest_next_missing(self->parts[self->remove_part].have, &self->remove_at, id)) {
            *part = self->remove_part;
            self->figures.removed++;
            return true;
        }
        self->remove_at = 0;
    }
    self->want = SYNC_DONE;
    return false;
}

tw_bson sync_session_query(const sync_session *self)
{
    return self->query;
}

tw_str sync_session_collection(const sync_session *self, size_t part)
{
    TW_ASSERT(part < self->parts_count);
    return tw_str_of(self->parts[part].name);
}

tw_str sync_session_database(const sync_session *self, size_t part)
{
    tw_bson_iter iter;
    size_t at = 0;
    TW_ASSERT(part < self->parts_count);
    tw_bson_iter_init(&iter, tw_bson_get_doc(self->query, TW_STR("c")));
    while (tw_bson_iter_next(&iter) && self->order[at] != part) {
        at++;
    }
    return tw_bson_get_str(tw_bson_value_doc(iter.value), TW_STR("d"));
}

tw_vector sync_session_at(const sync_session *self)
{
    return position_set_view(&self->at);
}

uint64_t sync_session_srv(const sync_session *self)
{
    return self->srv;
}

uint64_t sync_session_cut(const sync_session *self)
{
    return self->cut;
}

sync_figures sync_session_tell(const sync_session *self)
{
    return self->figures;
}
