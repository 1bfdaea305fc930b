/* manifest.c - see manifest.h. Ids stand in one arena; a table of open addressing leads from each
 * reading of an id to it. */
#include "broker/manifest.h"

#include "protocol/limits.h"

enum { MANIFEST_MAGIC = 0x3a21fe57, RANGES_MAGIC = 0x3a21fe58, SLOTS_FIRST = 256 };

/* ---- manifests ---- */

typedef struct entry {
    tw_bson_value id; /* as it was spelled */
    int64_t version;
    bool seen;
} entry;

typedef struct slot {
    tw_key key; /* len 0: empty */
    uint32_t entry;
    bool exact; /* the id is this key, not only another way to read it */
} slot;

struct manifest {
    uint32_t magic;
    tw_arena arena; /* own */
    entry *entries; /* own */
    size_t count, cap;
    slot *slots; /* own */
    size_t slots_count, readings;
    size_t bytes_max;
    uint64_t seed;
    tw_key last[3]; /* the readings of the last id */
    size_t last_count;
};

static struct manifest *self_of(const void *from)
{
    struct manifest *self;
    TW_CAST(self, (void *)(uintptr_t)from, MANIFEST_MAGIC);
    return self;
}

tw_err manifest_new(manifest **out, size_t bytes_max)
{
    TW_ASSERT(bytes_max > 0);
    manifest *self = tw_alloc_zero(1, sizeof *self);
    *out = self;
    if (self == NULL) {
        return TW_E_NO_MEMORY;
    }
    self->magic = MANIFEST_MAGIC;
    self->bytes_max = bytes_max;
    self->seed = (uint64_t)(uintptr_t)self * 0x9e3779b97f4a7c15ULL;
    tw_arena_init(&self->arena, bytes_max);
    return TW_OK;
}

void manifest_free(manifest **out)
{
    manifest *self = *out;
    *out = NULL;
    if (self == NULL) {
        return;
    }
    TW_ASSERT(self->magic == MANIFEST_MAGIC);
    tw_arena_fini(&self->arena);
    tw_free(self->entries);
    tw_free(self->slots);
    self->magic = 0;
    tw_free(self);
}

static slot *find(const manifest *self, tw_key key)
{
    TW_ASSERT(self->slots_count > 0);
    size_t mask = self->slots_count - 1;
    size_t at = (size_t)tw_hash(key.ptr, key.len, self->seed) & mask;
    while (self->slots[at].key.len != 0 && !tw_key_equal(self->slots[at].key, key)) {
        at = (at + 1) & mask;
    }
    return &self->slots[at];
}

static tw_err make_room(manifest *self)
{
    if (self->count == self->cap) {
        size_t cap = self->cap == 0 ? SLOTS_FIRST : self->cap * 2;
        entry *grown = tw_realloc(self->entries, cap * sizeof *grown);
        if (grown == NULL) {
            return TW_E_NO_MEMORY;
        }
        self->entries = grown;
        self->cap = cap;
    }
    if ((self->readings + 3) * 2 <= self->slots_count) {
        return TW_OK;
    }
    manifest old = *self;
    self->slots_count = old.slots_count == 0 ? SLOTS_FIRST : old.slots_count * 2;
    self->slots = tw_alloc_zero(self->slots_count, sizeof *self->slots);
    if (self->slots == NULL) {
        self->slots = old.slots;
        self->slots_count = old.slots_count;
        return TW_E_NO_MEMORY;
    }
    for (size_t i = 0; i < old.slots_count; i++) {
        if (old.slots[i].key.len != 0) {
            *find(self, old.slots[i].key) = old.slots[i];
        }
    }
    tw_free(old.slots);
    return TW_OK;
}

/* The whole number that a text writes as decimal, in its one shortest form. */
static bool number_of(tw_str text, int64_t *out)
{
    bool minus = text.len > 1 && text.ptr[0] == '-';
    tw_str digits = minus ? (tw_str){text.ptr + 1, text.len - 1} : text;
    uint64_t value = 0;
    if (digits.len == 0 || (digits.ptr[0] == '0' && (digits.len > 1 || minus)) ||
        tw_parse_u64(digits, INT64_MAX, &value) != TW_OK) {
        return false;
    }
    *out = minus ? -(int64_t)value : (int64_t)value;
    return true;
}

/* The keys that an id may mean, that of its own type first. */
static tw_err read_id(manifest *self, tw_bson_value id, bool is_name, tw_key keys[3], size_t *count)
{
    *count = 0;
    tw_key first = {0};
    tw_key also = {0};
    tw_err err = tw_key_of_id(&self->arena, id, &first, &also);
    if (err != TW_OK) {
        return err;
    }
    if (also.len != 0) { /* the text itself; first is the ObjectId */
        keys[(*count)++] = also;
    }
    keys[(*count)++] = first;
    int64_t number;
    if (is_name && number_of(tw_bson_value_str(id), &number)) {
        uint8_t bytes[8];
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = (uint8_t)((uint64_t)number >> (8 * i));
        }
        err = tw_key_of_value(&self->arena, (tw_bson_value){TW_BSON_INT64, bytes, sizeof bytes},
                              &keys[*count]);
        *count += err == TW_OK ? 1 : 0;
    }
    return err;
}

tw_err manifest_add(manifest *self, tw_bson_value id, bool is_name, int64_t version)
{
    TW_ASSERT(self->magic == MANIFEST_MAGIC);
    tw_err err = make_room(self);
    if (err != TW_OK) {
        return err;
    }
    bool is_full = manifest_bytes(self) + (size_t)TW_KEY_MAX * 8 > self->bytes_max;
    err = is_full ? TW_E_TOO_MANY : read_id(self, id, is_name, self->last, &self->last_count);
    if (err != TW_OK) {
        return err;
    }
    tw_str copy = tw_arena_str(&self->arena, (tw_str){(const char *)id.ptr, id.len});
    if (id.len > 0 && copy.ptr == NULL) {
        return TW_E_NO_MEMORY;
    }
    if (find(self, self->last[0])->exact) {
        return TW_E_CONFLICT;
    }
    for (size_t i = 0; i < self->last_count; i++) {
        slot *at = find(self, self->last[i]);
        if (at->key.len == 0 || i == 0) {
            self->readings += at->key.len == 0 ? 1 : 0;
            *at = (slot){self->last[i], (uint32_t)self->count, i == 0};
        }
    }
    self->entries[self->count++] =
        (entry){.id = {id.type, (const uint8_t *)copy.ptr, id.len}, .version = version};
    return TW_OK;
}

size_t manifest_count(const manifest *self)
{
    return self_of(self)->count;
}

size_t manifest_bytes(const manifest *self)
{
    TW_ASSERT(self->magic == MANIFEST_MAGIC);
    return self->arena.used + self->cap * sizeof(entry) + self->slots_count * sizeof(slot);
}

bool manifest_last_in(const manifest *self, bool (*is_in)(const void *context, uint32_t place),
                      const void *context)
{
    TW_ASSERT(self->magic == MANIFEST_MAGIC);
    for (size_t i = 0; i < self->last_count; i++) {
        if (is_in(context, tw_sync_place(self->last[i]))) {
            return true;
        }
    }
    return false;
}

manifest_verdict manifest_judge(manifest *self, tw_key key, int64_t version)
{
    TW_ASSERT(self->magic == MANIFEST_MAGIC);
    TW_ASSERT(key.len > 0);
    const slot *at = self->slots_count == 0 ? NULL : find(self, key);
    if (at == NULL || at->key.len == 0) {
        return MANIFEST_INSERT;
    }
    entry *held = &self->entries[at->entry];
    held->seen = true;
    return held->version == version ? MANIFEST_SAME : MANIFEST_UPDATE;
}

bool manifest_next_missing(const manifest *self, size_t *at, tw_bson_value *id)
{
    TW_ASSERT(self->magic == MANIFEST_MAGIC);
    while (*at < self->count && self->entries[*at].seen) {
        ++*at;
    }
    if (*at >= self->count) {
        return false;
    }
    *id = self->entries[(*at)++].id;
    return true;
}

/* ---- ranges ---- */

typedef struct leaf {
    tw_mark sum;
    uint32_t count;
    bool wanted;
} leaf;

struct manifest_ranges {
    uint32_t magic;
    unsigned bits;
    leaf leaves[];
};

unsigned manifest_bits_for(uint64_t records, unsigned bits_min)
{
    unsigned bits = bits_min;
    TW_ASSERT(bits_min <= TW_MANIFEST_BITS_MAX);
    while (bits < TW_MANIFEST_BITS_MAX && records >> bits > MANIFEST_LEAF_KEYS) {
        bits++;
    }
    return bits;
}

tw_err manifest_ranges_new(manifest_ranges **out, unsigned bits)
{
    TW_ASSERT(bits <= TW_MANIFEST_BITS_MAX);
    *out = tw_alloc_zero(1, sizeof **out + ((size_t)1 << bits) * sizeof(leaf));
    if (*out == NULL) {
        return TW_E_NO_MEMORY;
    }
    (*out)->magic = RANGES_MAGIC;
    (*out)->bits = bits;
    return TW_OK;
}

void manifest_ranges_free(manifest_ranges **self)
{
    tw_free(*self);
    *self = NULL;
}

unsigned manifest_ranges_bits(const manifest_ranges *self)
{
    TW_ASSERT(self->magic == RANGES_MAGIC);
    return self->bits;
}

static size_t leaf_of(const manifest_ranges *self, uint32_t place)
{
    return (size_t)((uint64_t)place >> (32 - self->bits));
}

void manifest_ranges_add(manifest_ranges *self, tw_key key, int64_t version)
{
    TW_ASSERT(self->magic == RANGES_MAGIC);
    tw_mark mark = tw_sync_mark(key, version);
    leaf *at = &self->leaves[leaf_of(self, tw_sync_place(key))];
    at->sum.high += mark.high;
    at->sum.low += mark.low;
    at->count++;
}

tw_mark manifest_ranges_sum(const manifest_ranges *self, unsigned bits, uint32_t range,
                            uint64_t *count)
{
    TW_ASSERT(self->magic == RANGES_MAGIC);
    TW_ASSERT(bits <= self->bits && range >> bits == 0);
    size_t width = (size_t)1 << (self->bits - bits);
    tw_mark sum = {0, 0};
    *count = 0;
    for (size_t i = range * width; i < (range + 1) * width; i++) {
        sum.high += self->leaves[i].sum.high;
        sum.low += self->leaves[i].sum.low;
        *count += self->leaves[i].count;
    }
    return sum;
}

void manifest_ranges_want(manifest_ranges *self, unsigned bits, uint32_t range)
{
    TW_ASSERT(self->magic == RANGES_MAGIC);
    TW_ASSERT(bits <= self->bits && range >> bits == 0);
    size_t width = (size_t)1 << (self->bits - bits);
    for (size_t i = range * width; i < (range + 1) * width; i++) {
        self->leaves[i].wanted = true;
    }
}

bool manifest_ranges_wants(const void *context, uint32_t place)
{
    const manifest_ranges *self = context;
    TW_ASSERT(self->magic == RANGES_MAGIC);
    return self->leaves[leaf_of(self, place)].wanted;
}
