/* log_index.c - see log_index.h.
 *
 * Keys stand in 256 hash tables (linear probing, load at most 3/4), so that growing one of them
 * never stalls for long; a table's key bytes stand together in one growing memory, written anew
 * when the table grows. Rows stand in chunks of 256 with three bit sets.
 *
 * Invariants
 * 1. A row is in `present` from its commit until it is swept; superseded and dead are subsets.
 * 2. entry.n_op names the newest row of its key, also after older rows were swept.
 * 3. Lists are ascending; what they name may be gone: readers check `present`.
 * 4. A row that is told after silent ones is listed under their scopes too: who was told the
 *    version before them is shown that it left. */
#include "actors/log/log_index.h"

enum {
    SHARDS = 256,
    SHARD_SLOTS_MIN = 16,
    NAME_SLOTS = 16384, /* hash of names: four for each collection that may live */
    LIST_MIN = 4,
    SWEEP_NUMERATOR = 3, /* a chunk is swept when 3/4 of it are dead: LOG.md rule 7 */
    SWEEP_DENOMINATOR = 4,
    WORDS = LOG_CHUNK_ROWS / 64,
    BLOCK_CHUNKS = 512,
    BLOCK_ROWS = BLOCK_CHUNKS * LOG_CHUNK_ROWS,
};

typedef struct key_shard {
    log_entry *slots; /* own */
    uint32_t slots_count;
    uint32_t used;
    uint8_t *keys; /* own; each: 2 bytes of length, then the key */
    uint32_t keys_len, keys_cap;
} key_shard;

typedef struct row_chunk {
    uint64_t present[WORDS], superseded[WORDS], covered[WORDS], dead[WORDS];
    uint16_t present_count, dead_count;
    uint16_t blocked;       /* dead rows that could not go */
    uint64_t blocked_floor; /* when the floor was this; looked at anew when it has risen */
} row_chunk;

/* Chunks are kept in blocks, which go with their last chunk: numbers only rise, so what old rows
 * leave behind must cost next to nothing, in memory and for who looks for something to sweep. */
typedef struct chunk_block {
    row_chunk *at[BLOCK_CHUNKS];      /* own */
    uint64_t ripe[BLOCK_CHUNKS / 64]; /* chunks of which enough is dead */
    unsigned count;                   /* of chunks */
} chunk_block;

typedef struct scope_slot { /* value -> code */
    uint8_t *value;         /* own */
    uint32_t len, code;
    uint64_t hash;
} scope_slot;

typedef struct scoped_slot { /* (incarnation, scope) -> list */
    uint64_t id;             /* coll << 32 | scope; 0: empty */
    log_list *list;          /* own */
} scoped_slot;

typedef struct silent_slot { /* of a silent row, and of the row that one supersedes */
    uint64_t n;              /* 0: empty */
    uint64_t after;          /* the silent row that supersedes it; 0: none */
    uint64_t prev;
    uint32_t scope, lscope;
    bool is_silent; /* the three above are set */
} silent_slot;

struct log_index {
    key_shard shards[SHARDS];
    chunk_block **blocks; /* own; by n / BLOCK_ROWS - blocks_first */
    uint64_t blocks_first;
    size_t blocks_count, blocks_cap;
    log_incarnation **incarnations; /* own; by slot */
    size_t incarnations_count, incarnations_cap;
    uint32_t incarnation_last;  /* highest id ever given */
    uint32_t names[NAME_SLOTS]; /* slot + 1 of the newest incarnation */
    scope_slot *scopes;         /* own; hash */
    size_t scopes_slots, scopes_count;
    uint32_t scope_last;
    scoped_slot *scoped; /* own; hash */
    size_t scoped_slots, scoped_count;
    silent_slot *silent; /* own; hash by n */
    size_t silent_slots, silent_count;
    log_origin origins[TW_ORIGINS_MAX];
    size_t origins_count;
    log_list drops;
    uint32_t *drops_coll; /* own; beside drops */
    size_t drops_coll_cap;
    uint64_t head, floor;
    log_index_stats stats;
};

/* ---- memory ---- */

/* Room for one more of size bytes; doubles. */
static tw_err grow(void **at, size_t *cap, size_t count, size_t size)
{
    TW_ASSERT(count <= *cap);
    TW_ASSERT(size > 0);
    if (count < *cap) {
        return TW_OK;
    }
    size_t more = *cap == 0 ? LIST_MIN : *cap * 2;
    void *bigger = tw_realloc(*at, more * size);
    if (bigger == NULL) {
        return TW_E_NO_MEMORY;
    }
    *at = bigger;
    *cap = more;
    return TW_OK;
}

static char *copy_text(tw_str text)
{
    char *copy = tw_alloc(text.len + 1);
    if (copy != NULL) {
        memcpy(copy, text.len == 0 ? "" : text.ptr, text.len);
        copy[text.len] = '\0';
    }
    return copy;
}

tw_err log_index_new(log_index **out)
{
    TW_ASSERT(out != NULL);
    *out = tw_alloc_zero(1, sizeof **out);
    if (*out == NULL) {
        return TW_E_NO_MEMORY;
    }
    (*out)->scope_last = LOG_SCOPE_WILD;
    return TW_OK;
}

static void free_incarnation(log_incarnation *incarnation)
{
    tw_free(incarnation->db);
    tw_free(incarnation->name);
    tw_free(incarnation->scope_field);
    tw_free(incarnation->all.at);
    tw_free(incarnation);
}

void log_index_free(log_index **index)
{
    log_index *self = *index;
    *index = NULL;
    if (self == NULL) {
        return;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        tw_free(self->shards[i].slots);
        tw_free(self->shards[i].keys);
    }
    for (size_t i = 0; i < self->blocks_count; i++) {
        for (size_t k = 0; self->blocks[i] != NULL && k < BLOCK_CHUNKS; k++) {
            tw_free(self->blocks[i]->at[k]);
        }
        tw_free(self->blocks[i]);
    }
    tw_free(self->blocks);
    for (size_t i = 0; i < self->incarnations_count; i++) {
        free_incarnation(self->incarnations[i]);
    }
    tw_free(self->incarnations);
    for (size_t i = 0; i < self->scopes_slots; i++) {
        tw_free(self->scopes[i].value);
    }
    tw_free(self->scopes);
    for (size_t i = 0; i < self->scoped_slots; i++) {
        if (self->scoped[i].list != NULL) {
            tw_free(self->scoped[i].list->at);
            tw_free(self->scoped[i].list);
        }
    }
    tw_free(self->scoped);
    tw_free(self->silent);
    for (size_t i = 0; i < self->origins_count; i++) {
        tw_free(self->origins[i].samples);
        tw_free(self->origins[i].recent);
    }
    tw_free(self->drops.at);
    tw_free(self->drops_coll);
    tw_free(self);
}

/* ---- collections ---- */

/* The slot of names where a name stands, or the empty one where it would. */
static size_t name_slot(const log_index *index, tw_str db, tw_str name)
{
    size_t at = tw_hash(name.ptr, name.len, tw_hash(db.ptr, db.len, 1)) % NAME_SLOTS;
    while (index->names[at] != 0) {
        const log_incarnation *other = index->incarnations[index->names[at] - 1];
        if (tw_str_equal(tw_str_of(other->db), db) && tw_str_equal(tw_str_of(other->name), name)) {
            break;
        }
        at = (at + 1) % NAME_SLOTS;
    }
    return at;
}

log_incarnation *log_index_named(log_index *index, tw_str db, tw_str name)
{
    uint32_t slot = index->names[name_slot(index, db, name)];
    return slot == 0 ? NULL : index->incarnations[slot - 1];
}

log_incarnation *log_index_older(log_index *index, const log_incarnation *incarnation)
{
    return incarnation->older == 0 ? NULL : index->incarnations[incarnation->older - 1];
}

log_incarnation *log_index_incarnation(log_index *index, uint32_t id)
{
    size_t low = 0;
    size_t high = index->incarnations_count; /* ids ascend with the slots */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (index->incarnations[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < index->incarnations_count && index->incarnations[low]->id == id;
    return found ? index->incarnations[low] : NULL;
}

size_t log_index_incarnations(const log_index *index)
{
    return index->incarnations_count;
}

log_incarnation *log_index_slot(log_index *index, size_t slot)
{
    TW_ASSERT(slot < index->incarnations_count);
    return index->incarnations[slot];
}

/* Gives up the slots of incarnations that are gone. */
static void forget_void(log_index *index)
{
    size_t kept = 0;
    memset(index->names, 0, sizeof index->names);
    for (size_t i = 0; i < index->incarnations_count; i++) {
        log_incarnation *incarnation = index->incarnations[i];
        if (incarnation->is_void) {
            free_incarnation(incarnation);
            continue;
        }
        index->incarnations[kept++] = incarnation;
    }
    index->incarnations_count = kept;
    for (size_t i = 0; i < kept; i++) {
        log_incarnation *incarnation = index->incarnations[i];
        size_t at = name_slot(index, tw_str_of(incarnation->db), tw_str_of(incarnation->name));
        incarnation->older = index->names[at];
        index->names[at] = (uint32_t)i + 1;
    }
}

tw_err log_index_add_incarnation(log_index *index, uint32_t id, tw_str db, tw_str name,
                                 tw_str scope_field, log_incarnation **out)
{
    TW_ASSERT(id == 0 || id > index->incarnation_last);
    if (index->incarnations_count >= TW_COLLECTIONS_MAX) {
        forget_void(index);
    }
    if (index->incarnations_count >= TW_COLLECTIONS_MAX || index->incarnation_last == UINT32_MAX) {
        return TW_E_TOO_MANY;
    }
    size_t at = name_slot(index, db, name);
    tw_err err = grow((void **)&index->incarnations, &index->incarnations_cap,
                      index->incarnations_count, sizeof(*index->incarnations));
    log_incarnation *added = err == TW_OK ? tw_alloc_zero(1, sizeof *added) : NULL;
    if (added == NULL) {
        return TW_E_NO_MEMORY;
    }
    added->db = copy_text(db);
    added->name = copy_text(name);
    added->scope_field = copy_text(scope_field);
    if (added->db == NULL || added->name == NULL || added->scope_field == NULL) {
        free_incarnation(added);
        return TW_E_NO_MEMORY;
    }
    added->id = id == 0 ? index->incarnation_last + 1 : id;
    added->older = index->names[at];
    if (added->older != 0) {
        const log_incarnation *before = index->incarnations[added->older - 1];
        added->ver_base = before->ver_max > before->ver_base ? before->ver_max : before->ver_base;
    }
    index->incarnation_last = added->id;
    index->incarnations[index->incarnations_count++] = added;
    index->names[at] = (uint32_t)index->incarnations_count;
    *out = added;
    return TW_OK;
}

/* ---- scopes ---- */

static size_t scope_slot_of(const log_index *index, tw_key value, uint64_t hash)
{
    size_t at = hash & (index->scopes_slots - 1);
    while (index->scopes[at].code != 0) {
        const scope_slot *slot = &index->scopes[at];
        if (slot->hash == hash && tw_key_equal((tw_key){slot->value, slot->len}, value)) {
            break;
        }
        at = (at + 1) & (index->scopes_slots - 1);
    }
    return at;
}

uint32_t log_index_scope(const log_index *index, tw_key value)
{
    if (index->scopes_slots == 0) {
        return 0;
    }
    return index->scopes[scope_slot_of(index, value, tw_hash(value.ptr, value.len, 2))].code;
}

static tw_err scopes_grow(log_index *index)
{
    size_t slots = index->scopes_slots == 0 ? 64 : index->scopes_slots * 2;
    scope_slot *old = index->scopes;
    size_t old_slots = index->scopes_slots;
    scope_slot *bigger = tw_alloc_zero(slots, sizeof *bigger);
    if (bigger == NULL) {
        return TW_E_NO_MEMORY;
    }
    index->scopes = bigger;
    index->scopes_slots = slots;
    for (size_t i = 0; i < old_slots; i++) {
        if (old[i].code != 0) {
            tw_key value = {old[i].value, old[i].len};
            index->scopes[scope_slot_of(index, value, old[i].hash)] = old[i];
        }
    }
    tw_free(old);
    return TW_OK;
}

tw_err log_index_add_scope(log_index *index, uint32_t code, tw_key value, uint32_t *out)
{
    TW_ASSERT(value.len > 0 && value.len <= LOG_KEY_BYTES_MAX);
    TW_ASSERT(code == 0 || code > LOG_SCOPE_WILD);
    if (index->scopes_count * 2 >= index->scopes_slots && scopes_grow(index) != TW_OK) {
        return TW_E_NO_MEMORY;
    }
    if (index->scope_last >= INT32_MAX) {
        return TW_E_TOO_MANY;
    }
    uint8_t *copy = tw_alloc(value.len);
    if (copy == NULL) {
        return TW_E_NO_MEMORY;
    }
    memcpy(copy, value.ptr, value.len);
    uint64_t hash = tw_hash(value.ptr, value.len, 2);
    size_t at = scope_slot_of(index, value, hash);
    TW_ASSERT(index->scopes[at].code == 0);
    code = code == 0 ? index->scope_last + 1 : code;
    index->scopes[at] =
        (scope_slot){.value = copy, .len = (uint32_t)value.len, .code = code, .hash = hash};
    index->scopes_count++;
    index->scope_last = code > index->scope_last ? code : index->scope_last;
    *out = code;
    return TW_OK;
}

/* ---- origins ---- */

log_origin *log_index_origin(log_index *index, uint32_t id)
{
    for (size_t i = 0; i < index->origins_count; i++) {
        if (index->origins[i].id == id) {
            return &index->origins[i];
        }
    }
    return NULL;
}

log_origin *log_index_origin_of_srv(log_index *index, uint64_t srv)
{
    for (size_t i = 0; i < index->origins_count; i++) {
        if (index->origins[i].srv == srv) {
            return &index->origins[i];
        }
    }
    return NULL;
}

size_t log_index_origins(const log_index *index)
{
    return index->origins_count;
}

log_origin *log_index_origin_at(log_index *index, size_t i)
{
    TW_ASSERT(i < index->origins_count);
    return &index->origins[i];
}

tw_err log_index_add_origin(log_index *index, uint32_t id, uint64_t srv, log_origin **out)
{
    TW_ASSERT(log_index_origin(index, id) == NULL);
    TW_ASSERT(srv <= TW_SEQNO_MAX);
    if (index->origins_count == TW_ORIGINS_MAX) {
        return TW_E_TOO_MANY;
    }
    log_sample *recent = NULL;
    if (id != LOG_ORIGIN_OWN) {
        recent = tw_alloc_zero(LOG_RECENT_ROWS, sizeof *recent);
        if (recent == NULL) {
            return TW_E_NO_MEMORY;
        }
    }
    log_origin *origin = &index->origins[index->origins_count++];
    *origin = (log_origin){.id = id, .srv = srv, .recent = recent};
    *out = origin;
    return TW_OK;
}

static tw_err origin_add_row(log_origin *origin, const log_row *row)
{
    TW_ASSERT(row->seqno >= origin->head);
    if (origin->id != LOG_ORIGIN_OWN && origin->rows % LOG_SAMPLE_EVERY == 0) {
        tw_err err = grow((void **)&origin->samples, &origin->samples_cap, origin->samples_count,
                          sizeof *origin->samples);
        if (err != TW_OK) {
            return err;
        }
        origin->samples[origin->samples_count++] = (log_sample){row->seqno, row->n};
    }
    if (origin->recent != NULL) {
        bool is_end = (row->flags & TW_ROW_LAST) != 0; /* else more of its position follow */
        origin->recent[origin->recent_count++ % LOG_RECENT_ROWS] =
            (log_sample){row->seqno - (is_end ? 0 : 1), row->n};
    }
    origin->rows++;
    origin->head = row->seqno;
    return TW_OK;
}

void log_origin_reach(log_origin *origin, uint64_t seqno)
{
    TW_ASSERT(origin->recent != NULL);
    if (origin->recent_count == 0) {
        origin->recent[origin->recent_count++] = (log_sample){0};
    }
    log_sample *newest = &origin->recent[(origin->recent_count - 1) % LOG_RECENT_ROWS];
    newest->seqno = seqno > newest->seqno ? seqno : newest->seqno;
    origin->head = seqno > origin->head ? seqno : origin->head;
}

uint64_t log_origin_row_below(const log_origin *origin, uint64_t seqno)
{
    if (origin->id == LOG_ORIGIN_OWN) {
        return seqno;
    }
    size_t low = 0;
    size_t high = origin->samples_count; /* the first sample that is not below seqno */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (origin->samples[middle].seqno < seqno) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : origin->samples[low - 1].n;
}

/* The newest of the recent rows that is not above n. False: all of them are. */
static bool recent_at(const log_origin *origin, uint64_t n, uint64_t *seqno)
{
    size_t high = origin->recent_count; /* the first that is above n */
    size_t first = high > LOG_RECENT_ROWS ? high - LOG_RECENT_ROWS : 0;
    size_t low = first;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (origin->recent[middle % LOG_RECENT_ROWS].n <= n) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *seqno = low == first ? 0 : origin->recent[(low - 1) % LOG_RECENT_ROWS].seqno;
    return low > first;
}

uint64_t log_origin_seqno_at(const log_origin *origin, uint64_t n)
{
    uint64_t seqno;
    if (origin->id == LOG_ORIGIN_OWN) {
        return n;
    }
    if (recent_at(origin, n, &seqno)) {
        return seqno;
    }
    size_t low = 0;
    size_t high = origin->samples_count; /* the first sample above n */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (origin->samples[middle].n <= n) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    /* One below the sample's own: its transaction may have more rows, which stand behind n. */
    return low == 0 ? 0 : origin->samples[low - 1].seqno - 1;
}

/* ---- keys ---- */

static uint64_t key_hash(uint32_t coll, tw_key key)
{
    return tw_hash(key.ptr, key.len, coll);
}

static tw_key shard_key(const key_shard *shard, const log_entry *entry)
{
    const uint8_t *at = shard->keys + entry->key_at;
    return (tw_key){at + 2, (size_t)at[0] | (size_t)at[1] << 8};
}

/* The slot of a key, or the empty one where it would stand. */
static uint32_t shard_slot(const key_shard *shard, uint32_t hash, uint32_t coll, tw_key key)
{
    uint32_t mask = shard->slots_count - 1;
    uint32_t at = hash & mask;
    for (; shard->slots[at].n_op != 0; at = (at + 1) & mask) {
        const log_entry *entry = &shard->slots[at];
        if (entry->hash == hash && entry->coll == coll &&
            tw_key_equal(shard_key(shard, entry), key)) {
            break;
        }
    }
    return at;
}

static const key_shard *shard_of(const log_index *index, uint64_t hash)
{
    return &index->shards[hash >> 56];
}

const log_entry *log_index_find(const log_index *index, uint32_t coll, tw_key key)
{
    uint64_t hash = key_hash(coll, key);
    const key_shard *shard = shard_of(index, hash);
    if (shard->slots_count == 0) {
        return NULL;
    }
    const log_entry *entry = &shard->slots[shard_slot(shard, (uint32_t)hash, coll, key)];
    return entry->n_op == 0 ? NULL : entry;
}

/* Twice the slots, and the keys' bytes written anew without those of removed entries. */
static tw_err shard_grow(key_shard *self)
{
    key_shard bigger = {.slots_count = self->used * 2 < self->slots_count ? self->slots_count
                                       : self->slots_count == 0           ? SHARD_SLOTS_MIN
                                                                          : self->slots_count * 2,
                        .used = self->used,
                        .keys_cap = self->keys_cap == 0 ? 256 : self->keys_cap * 2};
    size_t slots_bytes = bigger.slots_count * sizeof *bigger.slots;
    bigger.slots = tw_alloc(slots_bytes);
    bigger.keys = tw_alloc(bigger.keys_cap);
    if (bigger.slots == NULL || bigger.keys == NULL) {
        tw_free(bigger.slots);
        tw_free(bigger.keys);
        return TW_E_NO_MEMORY;
    }
    memset(bigger.slots, 0, slots_bytes); /* here, not by faults of what reads them: log_opids.c */
    for (uint32_t i = 0; i < self->slots_count; i++) {
        const log_entry *entry = &self->slots[i];
        if (entry->n_op == 0) {
            continue;
        }
        tw_key key = shard_key(self, entry);
        uint32_t at = entry->hash & (bigger.slots_count - 1);
        while (bigger.slots[at].n_op != 0) {
            at = (at + 1) & (bigger.slots_count - 1);
        }
        bigger.slots[at] = *entry;
        bigger.slots[at].key_at = bigger.keys_len;
        memcpy(bigger.keys + bigger.keys_len, self->keys + entry->key_at, key.len + 2);
        bigger.keys_len += (uint32_t)key.len + 2;
    }
    tw_free(self->slots);
    tw_free(self->keys);
    *self = bigger;
    return TW_OK;
}

/* The entry of a key, added when it was not there (n_op is then 0). */
static tw_err entry_of(log_index *index, uint32_t coll, tw_key key, log_entry **out)
{
    TW_ASSERT(key.len > 0 && key.len <= LOG_KEY_BYTES_MAX);
    uint64_t hash = key_hash(coll, key);
    key_shard *shard = &index->shards[hash >> 56];
    if (shard->slots_count > 0) {
        *out = &shard->slots[shard_slot(shard, (uint32_t)hash, coll, key)];
        if ((*out)->n_op != 0) {
            return TW_OK;
        }
    }
    while (shard->used * 4 >= shard->slots_count * 3 ||
           shard->keys_cap - shard->keys_len < key.len + 2) {
        if (shard->keys_cap > UINT32_MAX / 4 || shard_grow(shard) != TW_OK) {
            return TW_E_NO_MEMORY;
        }
    }
    *out = &shard->slots[shard_slot(shard, (uint32_t)hash, coll, key)];
    **out = (log_entry){.coll = coll, .key_at = shard->keys_len, .hash = (uint32_t)hash};
    uint8_t *at = shard->keys + shard->keys_len;
    at[0] = (uint8_t)key.len;
    at[1] = (uint8_t)(key.len >> 8);
    memcpy(at + 2, key.ptr, key.len);
    shard->keys_len += (uint32_t)key.len + 2;
    shard->used++;
    return TW_OK;
}

/* Removes a slot and moves those behind it back, so that no search stops too early. */
static void entry_remove(key_shard *shard, uint32_t at)
{
    TW_ASSERT(shard->used > 0);
    uint32_t mask = shard->slots_count - 1;
    uint32_t hole = at;
    for (uint32_t i = (at + 1) & mask; shard->slots[i].n_op != 0; i = (i + 1) & mask) {
        uint32_t home = shard->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            shard->slots[hole] = shard->slots[i];
            hole = i;
        }
    }
    shard->slots[hole] = (log_entry){0};
    shard->used--;
}

/* ---- chunks ---- */

/* The place of a row's chunk in its block. */
static size_t slot_of(uint64_t n)
{
    return n / LOG_CHUNK_ROWS % BLOCK_CHUNKS;
}

static chunk_block *block_of(const log_index *index, uint64_t n)
{
    uint64_t id = n / BLOCK_ROWS;
    bool inside = id >= index->blocks_first && id - index->blocks_first < index->blocks_count;
    return inside ? index->blocks[id - index->blocks_first] : NULL;
}

static row_chunk *chunk_of(const log_index *index, uint64_t n)
{
    const chunk_block *block = block_of(index, n);
    return block == NULL ? NULL : block->at[slot_of(n)];
}

static tw_err chunk_add(log_index *index, uint64_t n, row_chunk **out)
{
    uint64_t id = n / BLOCK_ROWS;
    if (index->blocks_count == 0) {
        index->blocks_first = id;
    }
    TW_ASSERT(id >= index->blocks_first); /* rows come in ascending order */
    while (id - index->blocks_first >= index->blocks_count) {
        tw_err err = grow((void **)&index->blocks, &index->blocks_cap, index->blocks_count,
                          sizeof(*index->blocks));
        if (err != TW_OK) {
            return err;
        }
        index->blocks[index->blocks_count++] = NULL;
    }
    chunk_block **block = &index->blocks[id - index->blocks_first];
    if (*block == NULL) {
        *block = tw_alloc_zero(1, sizeof **block);
    }
    row_chunk **at = *block == NULL ? NULL : &(*block)->at[slot_of(n)];
    if (at != NULL && *at == NULL) {
        *at = tw_alloc_zero(1, sizeof **at);
        (*block)->count += *at != NULL;
    }
    *out = at == NULL ? NULL : *at;
    return *out == NULL ? TW_E_NO_MEMORY : TW_OK;
}

/* After a change of what is present or dead in a chunk. */
static void note_ripe(log_index *index, uint64_t n, const row_chunk *chunk)
{
    uint64_t *word = &block_of(index, n)->ripe[slot_of(n) / 64];
    uint64_t bit = 1ULL << slot_of(n) % 64;
    bool is_ripe = chunk->dead_count > 0 &&
                   chunk->dead_count * SWEEP_DENOMINATOR >= chunk->present_count * SWEEP_NUMERATOR;
    *word = is_ripe ? *word | bit : *word & ~bit;
}

/* Frees a chunk without rows, and its block with the last. */
static void chunk_remove(log_index *index, uint64_t n)
{
    chunk_block *block = block_of(index, n);
    tw_free(block->at[slot_of(n)]);
    block->at[slot_of(n)] = NULL;
    if (--block->count == 0) {
        index->blocks[n / BLOCK_ROWS - index->blocks_first] = NULL;
        tw_free(block);
    }
}

static bool bit_get(const uint64_t *words, uint64_t n)
{
    return (words[n % LOG_CHUNK_ROWS / 64] >> (n % 64) & 1) != 0;
}

static void bit_set(uint64_t *words, uint64_t n)
{
    words[n % LOG_CHUNK_ROWS / 64] |= 1ULL << (n % 64);
}

static void bit_clear(uint64_t *words, uint64_t n)
{
    words[n % LOG_CHUNK_ROWS / 64] &= ~(1ULL << (n % 64));
}

bool log_index_present(const log_index *index, uint64_t n)
{
    const row_chunk *chunk = chunk_of(index, n);
    return chunk != NULL && bit_get(chunk->present, n);
}

bool log_index_superseded(const log_index *index, uint64_t n)
{
    const row_chunk *chunk = chunk_of(index, n);
    return chunk != NULL && bit_get(chunk->superseded, n);
}

log_row_state log_index_state(const log_index *index, uint64_t n)
{
    const row_chunk *chunk = chunk_of(index, n);
    return chunk == NULL ? (log_row_state){0}
                         : (log_row_state){.is_present = bit_get(chunk->present, n),
                                           .is_superseded = bit_get(chunk->superseded, n)};
}

bool log_index_covered(const log_index *index, uint64_t n)
{
    const row_chunk *chunk = chunk_of(index, n);
    return chunk != NULL && bit_get(chunk->covered, n);
}

bool log_index_dead(const log_index *index, uint64_t n)
{
    const row_chunk *chunk = chunk_of(index, n);
    return chunk != NULL && bit_get(chunk->dead, n);
}

uint64_t log_index_next(const log_index *index, uint64_t n)
{
    uint64_t lowest = index->blocks_first * BLOCK_ROWS;
    uint64_t at = n + 1 > lowest ? n + 1 : lowest;
    TW_ASSERT(n < UINT64_MAX);
    while (at / BLOCK_ROWS - index->blocks_first < index->blocks_count) {
        const chunk_block *block = block_of(index, at);
        const row_chunk *chunk = block == NULL ? NULL : block->at[slot_of(at)];
        if (block == NULL) {
            at = (at / BLOCK_ROWS + 1) * BLOCK_ROWS;
        } else if (chunk == NULL) {
            at = (at / LOG_CHUNK_ROWS + 1) * LOG_CHUNK_ROWS;
        } else if (bit_get(chunk->present, at)) {
            return at;
        } else {
            at++;
        }
    }
    return UINT64_MAX;
}

static void mark_dead(log_index *index, uint64_t n)
{
    row_chunk *chunk = chunk_of(index, n);
    if (chunk != NULL && bit_get(chunk->present, n) && !bit_get(chunk->dead, n)) {
        bit_set(chunk->dead, n);
        chunk->dead_count++;
        index->stats.dead++;
        note_ripe(index, n, chunk);
    }
}

static void mark_superseded(log_index *index, uint64_t n)
{
    row_chunk *chunk = chunk_of(index, n);
    if (chunk != NULL && bit_get(chunk->present, n) && !bit_get(chunk->superseded, n)) {
        bit_set(chunk->superseded, n);
        index->stats.superseded++;
    }
}

/* ---- lists ---- */

static tw_err list_add(log_list *list, uint64_t n)
{
    TW_ASSERT(list->count == 0 || list->at[list->count - 1] < n);
    tw_err err = grow((void **)&list->at, &list->cap, list->count, sizeof *list->at);
    if (err == TW_OK) {
        list->at[list->count++] = n;
    }
    return err;
}

/* One more of the list's rows is gone; half of them: they are left out. */
static void list_gone(const log_index *index, log_list *list)
{
    if (list == NULL || ++list->gone * 2 < list->count || list->gone < LIST_MIN * 4) {
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (log_index_present(index, list->at[i])) {
            list->at[kept++] = list->at[i];
        }
    }
    list->count = kept;
    list->gone = 0;
    if (kept == 0) {
        tw_free(list->at);
        *list = (log_list){0};
    } else if (kept * 4 < list->cap && list->cap > LIST_MIN * 8) {
        uint64_t *smaller = tw_realloc(list->at, list->cap / 2 * sizeof *smaller);
        if (smaller != NULL) {
            list->at = smaller;
            list->cap /= 2;
        }
    }
}

static size_t scoped_slot_of(const log_index *index, uint64_t id)
{
    size_t at = tw_hash(&id, sizeof id, 3) & (index->scoped_slots - 1);
    while (index->scoped[at].id != 0 && index->scoped[at].id != id) {
        at = (at + 1) & (index->scoped_slots - 1);
    }
    return at;
}

/* ---- silent rows ---- */

static size_t silent_slot_of(const log_index *index, uint64_t n)
{
    size_t at = tw_hash(&n, sizeof n, 5) & (index->silent_slots - 1);
    while (index->silent[at].n != 0 && index->silent[at].n != n) {
        at = (at + 1) & (index->silent_slots - 1);
    }
    return at;
}

static silent_slot *silent_find(const log_index *index, uint64_t n)
{
    if (index->silent_slots == 0) {
        return NULL;
    }
    silent_slot *slot = &index->silent[silent_slot_of(index, n)];
    return slot->n == 0 ? NULL : slot;
}

static tw_err silent_grow(log_index *index)
{
    size_t old_slots = index->silent_slots;
    silent_slot *old = index->silent;
    size_t slots = old_slots == 0 ? 64 : old_slots * 2;
    silent_slot *bigger = tw_alloc_zero(slots, sizeof *bigger);
    if (bigger == NULL) {
        return TW_E_NO_MEMORY;
    }
    index->silent = bigger;
    index->silent_slots = slots;
    for (size_t i = 0; i < old_slots; i++) {
        if (old[i].n != 0) {
            index->silent[silent_slot_of(index, old[i].n)] = old[i];
        }
    }
    tw_free(old);
    return TW_OK;
}

/* The slot of a row, added when it was not there. */
static tw_err silent_add(log_index *index, uint64_t n, silent_slot **out)
{
    TW_ASSERT(n > 0);
    if (index->silent_count * 2 >= index->silent_slots && silent_grow(index) != TW_OK) {
        return TW_E_NO_MEMORY;
    }
    *out = &index->silent[silent_slot_of(index, n)];
    index->silent_count += (*out)->n == 0 ? 1 : 0;
    (*out)->n = n;
    return TW_OK;
}

/* Removes a slot and moves those behind it back, so that no search stops too early. */
static void silent_remove(log_index *index, uint64_t n)
{
    if (silent_find(index, n) == NULL) {
        return;
    }
    size_t mask = index->silent_slots - 1;
    size_t hole = silent_slot_of(index, n);
    for (size_t i = (hole + 1) & mask; index->silent[i].n != 0; i = (i + 1) & mask) {
        size_t home = tw_hash(&index->silent[i].n, sizeof n, 5) & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            index->silent[hole] = index->silent[i];
            hole = i;
        }
    }
    index->silent[hole] = (silent_slot){0};
    index->silent_count--;
}

bool log_index_silent(const log_index *index, uint64_t n)
{
    const silent_slot *slot = silent_find(index, n);
    return slot != NULL && slot->is_silent;
}

uint64_t log_index_silent_after(const log_index *index, uint64_t n)
{
    const silent_slot *slot = silent_find(index, n);
    return slot == NULL ? 0 : slot->after;
}

/* ---- lists of scopes ---- */

static log_list *scoped_find(const log_index *index, uint32_t coll, uint32_t scope)
{
    if (index->scoped_slots == 0) {
        return NULL;
    }
    return index->scoped[scoped_slot_of(index, (uint64_t)coll << 32 | scope)].list;
}

static tw_err scoped_grow(log_index *index)
{
    size_t old_slots = index->scoped_slots;
    scoped_slot *old = index->scoped;
    size_t slots = old_slots == 0 ? 64 : old_slots * 2;
    scoped_slot *bigger = tw_alloc_zero(slots, sizeof *bigger);
    if (bigger == NULL) {
        return TW_E_NO_MEMORY;
    }
    index->scoped = bigger;
    index->scoped_slots = slots;
    for (size_t i = 0; i < old_slots; i++) {
        if (old[i].id != 0) {
            index->scoped[scoped_slot_of(index, old[i].id)] = old[i];
        }
    }
    tw_free(old);
    return TW_OK;
}

static tw_err scoped_add(log_index *index, uint32_t coll, uint32_t scope, uint64_t n)
{
    if (scope == LOG_SCOPE_NONE) {
        return TW_OK;
    }
    if (index->scoped_count * 2 >= index->scoped_slots && scoped_grow(index) != TW_OK) {
        return TW_E_NO_MEMORY;
    }
    uint64_t id = (uint64_t)coll << 32 | scope;
    scoped_slot *slot = &index->scoped[scoped_slot_of(index, id)];
    if (slot->list == NULL) {
        slot->list = tw_alloc_zero(1, sizeof *slot->list);
        if (slot->list == NULL) {
            return TW_E_NO_MEMORY;
        }
        slot->id = id;
        index->scoped_count++;
    }
    if (slot->list->count > 0 && slot->list->at[slot->list->count - 1] == n) {
        return TW_OK; /* there already */
    }
    return list_add(slot->list, n);
}

const log_list *log_index_all(const log_index *index, const log_incarnation *incarnation)
{
    TW_ASSERT(index != NULL && incarnation != NULL);
    return &incarnation->all;
}

const log_list *log_index_scoped(const log_index *index, uint32_t coll, uint32_t scope)
{
    return scoped_find(index, coll, scope);
}

size_t log_list_after(const log_list *list, uint64_t n)
{
    size_t low = 0;
    size_t high = list->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (list->at[middle] <= n) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const log_list *log_index_drops(const log_index *index)
{
    return &index->drops;
}

uint32_t log_index_drop_coll(const log_index *index, size_t i)
{
    TW_ASSERT(i < index->drops.count);
    return index->drops_coll[i];
}

/* ---- rows ---- */

static tw_err add_drop(log_index *index, const log_row *row, log_incarnation *incarnation)
{
    TW_ASSERT((row->flags & TW_ROW_DROP) != 0);
    size_t count = index->drops.count;
    tw_err err =
        grow((void **)&index->drops_coll, &index->drops_coll_cap, count, sizeof *index->drops_coll);
    if (err == TW_OK) {
        err = list_add(&index->drops, row->n);
    }
    if (err == TW_OK) {
        index->drops_coll[count] = row->coll;
        if (incarnation != NULL) {
            incarnation->dropped = row->n;
            index->stats.records -= incarnation->records;
            incarnation->records = 0;
        }
    }
    return err;
}

/* A silent row covers nothing. */
static tw_err add_silent(log_index *index, const log_row *row)
{
    TW_ASSERT(row->prev != 0);
    silent_slot *slot;
    tw_err err = silent_add(index, row->prev, &slot);
    if (err == TW_OK) {
        slot->after = row->n;
        err = silent_add(index, row->n, &slot);
    }
    if (err == TW_OK) {
        slot->prev = row->prev;
        slot->scope = row->scope;
        slot->lscope = row->lscope;
        slot->is_silent = true;
    }
    return err;
}

/* A row that is told covers the one before it, and where that is silent those up to and with the
 * last that was told. */
static tw_err cover(log_index *index, const log_row *row)
{
    tw_err err = TW_OK;
    uint64_t n = row->prev;
    while (err == TW_OK && n != 0) {
        row_chunk *chunk = chunk_of(index, n);
        if (chunk != NULL && bit_get(chunk->present, n)) {
            bit_set(chunk->covered, n);
        }
        const silent_slot *slot = silent_find(index, n);
        bool is_silent = slot != NULL && slot->is_silent;
        n = is_silent ? slot->prev : 0;
        if (is_silent) {
            err = scoped_add(index, row->coll, slot->scope, row->n);
        }
        if (is_silent && err == TW_OK) {
            err = scoped_add(index, row->coll, slot->lscope, row->n);
        }
    }
    return err;
}

static tw_err add_version(log_index *index, const log_row *row, log_incarnation *incarnation)
{
    log_entry *entry;
    tw_err err = entry_of(index, row->coll, row->key, &entry);
    if (err != TW_OK) {
        return err;
    }
    bool was = entry->n_op != 0 && !log_entry_deleted(entry);
    bool is = (row->flags & TW_ROW_PUT) != 0;
    entry->n_op = row->n << 1 | (is ? 0 : 1);
    entry->ver = row->ver;
    entry->scope = row->scope;
    mark_superseded(index, row->prev);
    if (incarnation->dropped == 0 && was != is) {
        incarnation->records += is ? 1 : (uint64_t)-1;
        index->stats.records += is ? 1 : (uint64_t)-1;
    }
    if (row->ver > incarnation->ver_max) {
        incarnation->ver_max = row->ver;
    }
    err = list_add(&incarnation->all, row->n);
    if (err == TW_OK) {
        err = scoped_add(index, row->coll, row->scope, row->n);
    }
    if (err == TW_OK && row->lscope != row->scope) {
        err = scoped_add(index, row->coll, row->lscope, row->n);
    }
    if (err == TW_OK && row->prev != 0) {
        err = (row->flags & TW_ROW_SILENT) != 0 ? add_silent(index, row) : cover(index, row);
    }
    return err;
}

tw_err log_index_add(log_index *index, const log_row *row)
{
    TW_ASSERT(row->n > index->head || index->head == 0 || row->n == index->head);
    row_chunk *chunk;
    tw_err err = chunk_add(index, row->n, &chunk);
    if (err != TW_OK) {
        return err;
    }
    bit_set(chunk->present, row->n);
    chunk->present_count++;
    index->stats.rows++;
    log_origin *origin = log_index_origin(index, row->origin);
    log_incarnation *incarnation = log_index_incarnation(index, row->coll);
    TW_ASSERT(origin != NULL && incarnation != NULL); /* the table and the writer see to it */
    err = origin_add_row(origin, row);
    if (err == TW_OK) {
        err = (row->flags & TW_ROW_DROP) != 0 ? add_drop(index, row, incarnation)
                                              : add_version(index, row, incarnation);
    }
    index->head = row->n > index->head ? row->n : index->head;
    return err;
}

void log_index_pass_floor(log_index *index, const log_row *row)
{
    TW_ASSERT(row->n <= index->floor);
    mark_dead(index, row->prev);
    if ((row->flags & TW_ROW_DELETE) != 0) {
        mark_dead(index, row->n);
        log_incarnation *incarnation = log_index_incarnation(index, row->coll);
        if (incarnation != NULL && row->ver > incarnation->ver_base) {
            incarnation->ver_base = row->ver; /* a key that comes back goes on above it */
        }
    }
}

bool log_index_kill(log_index *index, uint32_t coll, uint64_t upto, size_t *at, size_t steps)
{
    log_incarnation *incarnation = log_index_incarnation(index, coll);
    TW_ASSERT(steps > 0);
    if (incarnation == NULL) {
        return true;
    }
    const log_list *list = &incarnation->all;
    for (; steps > 0 && *at < list->count; steps--, (*at)++) {
        if (list->at[*at] <= upto) {
            mark_dead(index, list->at[*at]);
        }
    }
    if (*at < list->count) {
        return false;
    }
    mark_dead(index, upto); /* the drop itself */
    return true;
}

static void remove_drop(log_index *index, uint64_t n)
{
    size_t at = log_list_after(&index->drops, n - 1);
    TW_ASSERT(at < index->drops.count && index->drops.at[at] == n);
    size_t behind = index->drops.count - at - 1;
    memmove(&index->drops.at[at], &index->drops.at[at + 1], behind * sizeof *index->drops.at);
    memmove(&index->drops_coll[at], &index->drops_coll[at + 1], behind * sizeof(uint32_t));
    index->drops.count--;
}

void log_index_remove(log_index *index, const log_row *row)
{
    row_chunk *chunk = chunk_of(index, row->n);
    TW_ASSERT(chunk != NULL && bit_get(chunk->present, row->n));
    bit_clear(chunk->present, row->n);
    chunk->present_count--;
    index->stats.rows--;
    index->stats.swept++;
    if (bit_get(chunk->dead, row->n)) {
        bit_clear(chunk->dead, row->n);
        chunk->dead_count--;
        index->stats.dead--;
    }
    if (bit_get(chunk->superseded, row->n)) {
        bit_clear(chunk->superseded, row->n);
        index->stats.superseded--;
    }
    bit_clear(chunk->covered, row->n);
    silent_remove(index, row->n);
    note_ripe(index, row->n, chunk);
    if (chunk->present_count == 0) {
        chunk_remove(index, row->n);
    }
    if ((row->flags & TW_ROW_DROP) != 0) {
        remove_drop(index, row->n);
        return;
    }
    uint64_t hash = key_hash(row->coll, row->key);
    key_shard *shard = &index->shards[hash >> 56];
    uint32_t at = shard_slot(shard, (uint32_t)hash, row->coll, row->key);
    if (shard->slots[at].n_op != 0 && log_entry_n(&shard->slots[at]) == row->n) {
        entry_remove(shard, at);
    }
    log_incarnation *incarnation = log_index_incarnation(index, row->coll);
    TW_ASSERT(incarnation != NULL);
    list_gone(index, &incarnation->all);
    list_gone(index, scoped_find(index, row->coll, row->scope));
    if (row->lscope != row->scope) {
        list_gone(index, scoped_find(index, row->coll, row->lscope));
    }
}

/* The next ripe chunk of a block, from slot on; BLOCK_CHUNKS: none. */
static size_t ripe_from(const chunk_block *block, size_t slot)
{
    for (size_t i = slot / 64; block != NULL && i < BLOCK_CHUNKS / 64; i++) {
        uint64_t word = block->ripe[i] & (i == slot / 64 ? UINT64_MAX << slot % 64 : UINT64_MAX);
        if (word != 0) {
            return i * 64 + (size_t)__builtin_ctzll(word);
        }
    }
    return BLOCK_CHUNKS;
}

/* False where rows that could not go when the floor was this leave too few of a ripe chunk. */
static bool is_worth(const log_index *index, const row_chunk *chunk)
{
    unsigned blocked = chunk->blocked_floor == index->floor ? chunk->blocked : 0;
    unsigned ready = chunk->dead_count > blocked ? chunk->dead_count - blocked : 0;
    return ready > 0 && ready * SWEEP_DENOMINATOR >= chunk->present_count * SWEEP_NUMERATOR;
}

bool log_index_next_sweep(log_index *index, uint64_t *at, size_t steps)
{
    uint64_t first = index->blocks_first * BLOCK_CHUNKS;
    uint64_t end = first + index->blocks_count * BLOCK_CHUNKS;
    for (uint64_t left = end - first; left > 0 && steps > 0;) { /* each one once */
        *at = *at < first || *at >= end ? first : *at;
        const chunk_block *block = index->blocks[(*at - first) / BLOCK_CHUNKS];
        size_t slot = *at % BLOCK_CHUNKS;
        size_t ripe = ripe_from(block, slot);
        uint64_t passed = ripe - slot;
        *at += passed;
        if (ripe == BLOCK_CHUNKS || passed >= left) {
            left -= passed < left ? passed : left;
            continue;
        }
        if (is_worth(index, block->at[ripe])) {
            return true;
        }
        ++*at;
        left -= passed + 1;
        steps--;
    }
    return false;
}

void log_index_blocked(log_index *index, uint64_t id, unsigned rows)
{
    row_chunk *chunk = chunk_of(index, id * LOG_CHUNK_ROWS);
    TW_ASSERT(rows <= LOG_CHUNK_ROWS);
    if (chunk != NULL) {
        chunk->blocked = (uint16_t)rows;
        chunk->blocked_floor = index->floor;
    }
}

uint64_t log_index_head(const log_index *index)
{
    return index->head;
}

void log_index_set_head(log_index *index, uint64_t head)
{
    TW_ASSERT(head >= index->head);
    index->head = head;
}

uint64_t log_index_floor(const log_index *index)
{
    return index->floor;
}

/* Forgets samples below the floor when they are half of all; the newest of them stays, since rows
 * above the floor are found from it. */
static void trim_samples(log_origin *origin, uint64_t floor)
{
    size_t gone = 0;
    while (gone + 1 < origin->samples_count && origin->samples[gone + 1].n <= floor) {
        gone++;
    }
    if (gone * 2 > origin->samples_count) {
        origin->samples_count -= gone;
        memmove(origin->samples, origin->samples + gone,
                origin->samples_count * sizeof *origin->samples);
    }
}

void log_index_set_floor(log_index *index, uint64_t floor)
{
    TW_ASSERT(floor >= index->floor);
    index->floor = floor;
    for (size_t i = 0; i < index->origins_count; i++) {
        trim_samples(&index->origins[i], floor);
    }
}

log_index_stats log_index_figures(const log_index *index)
{
    return index->stats;
}
