/* topic_index_text.c - who asks for a text within a text, found by three letters of it.
 *
 * A literal stands under its rarest three letters (two, where it has no more), with ASCII letters
 * in lower case. A look-up walks each text once; a filter of bits by hash says of most places that
 * nothing stands there. Where something does, the whole literal is compared at that place before a
 * part is told. */
#include "broker/topic_index_priv.h"

static uint8_t fold(char c)
{
    return (uint8_t)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/* The letters as one number; those of two letters are told apart from those of three. */
static uint32_t gram_at(const char *text, unsigned letters)
{
    uint32_t gram = letters << 24 | (uint32_t)fold(text[0]) << 8 | fold(text[1]);
    return letters == INDEX_GRAM_MIN ? gram : gram | (uint32_t)fold(text[2]) << 16;
}

static uint64_t mix(const index_path *path, uint32_t gram)
{
    uint64_t x = (path->seed ^ gram) * 0x9e3779b97f4a7c15ULL;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ULL;
    return x ^ x >> 32;
}

static size_t place_of(uint64_t hash)
{
    return hash >> (64 - INDEX_GRAM_BITS);
}

static void note(const index_path *path, uint64_t hash)
{
    path->grams[place_of(hash) >> 6] |= (uint64_t)1 << (place_of(hash) & 63);
}

static bool is_noted(const index_path *path, uint64_t hash)
{
    return (path->grams[place_of(hash) >> 6] >> (place_of(hash) & 63) & 1) != 0;
}

static unsigned letters_of(tw_str literal)
{
    TW_ASSERT(literal.len >= INDEX_GRAM_MIN);
    return literal.len < INDEX_GRAM_MAX ? INDEX_GRAM_MIN : INDEX_GRAM_MAX;
}

uint64_t index_rarest_gram(const topic_index_collection *collection, uint16_t path,
                           const index_path *at, tw_str literal, uint8_t *where, size_t *members)
{
    unsigned letters = letters_of(literal);
    uint64_t best = 0;
    *members = SIZE_MAX;
    for (size_t i = 0; i + letters <= literal.len && *members > 0; i++) {
        uint64_t hash = mix(at, gram_at(literal.ptr + i, letters));
        const index_bucket *bucket = index_find_bucket(collection, path, hash);
        size_t found = bucket == NULL ? 0 : bucket->members;
        if (found < *members) {
            *members = found;
            *where = (uint8_t)i;
            best = hash;
        }
    }
    TW_ASSERT(*members != SIZE_MAX);
    return best;
}

topic_index_entry *index_join_text(topic_index_collection *collection, uint16_t path,
                                   const query_need *need)
{
    uint8_t where;
    size_t members;
    index_path *at = &collection->paths[path];
    TW_ASSERT(need->kind == QUERY_NEED_TEXT);
    if (at->grams == NULL) {
        at->grams = tw_alloc_zero((1U << INDEX_GRAM_BITS) / 64, sizeof(uint64_t));
        if (at->grams == NULL) {
            return NULL;
        }
    }
    uint64_t hash = index_rarest_gram(collection, path, at, need->literal, &where, &members);
    topic_index_entry *entry = index_join_bucket(collection, path, need, hash);
    if (entry != NULL) {
        ((index_hashed *)entry)->literal_at = where;
        entry->gram = (uint8_t)letters_of(need->literal);
        note(at, hash);
    }
    return entry;
}

/* The bits stay until the last text leaves its path: others may have set them too. */
void index_leave_text(topic_index_collection *collection, topic_index_entry *entry)
{
    index_path *at = &collection->paths[entry->path];
    TW_ASSERT(at->grams != NULL);
    index_leave_bucket(collection, entry);
    if (at->of_kind[QUERY_NEED_TEXT] == 0) {
        tw_free(at->grams);
        at->grams = NULL;
    }
}

static bool stands_at(const index_hashed *entry, tw_str text, size_t place)
{
    if (place < entry->literal_at || text.len - (place - entry->literal_at) < entry->literal_len) {
        return false;
    }
    const char *begin = text.ptr + place - entry->literal_at;
    for (size_t i = 0; i < entry->literal_len; i++) {
        if (fold(begin[i]) != (uint8_t)entry->literal[i]) {
            return false;
        }
    }
    return true;
}

static void tell_at(index_finding *finding, tw_str text, size_t place, uint64_t hash)
{
    const index_bucket *bucket = index_find_bucket(finding->collection, finding->path_at, hash);
    const index_hashed *at = bucket == NULL ? NULL : bucket->first;
    for (; at != NULL; at = at->next) {
        if (at->entry.kind != QUERY_NEED_TEXT || stands_at(at, text, place)) {
            index_tell(finding, at->entry.member);
        }
    }
}

void index_tell_texts(index_finding *finding, tw_str text)
{
    const index_path *path = finding->path;
    TW_ASSERT(path->of_kind[QUERY_NEED_TEXT] > 0);
    if (text.ptr == NULL || text.len > TW_REGEX_SUBJECT_MAX) {
        return; /* no expression matches what is no text, or so long */
    }
    for (unsigned letters = INDEX_GRAM_MIN; letters <= INDEX_GRAM_MAX; letters++) {
        for (size_t i = 0; path->of_gram[letters] > 0 && i + letters <= text.len; i++) {
            uint64_t hash = mix(path, gram_at(text.ptr + i, letters));
            if (is_noted(path, hash)) {
                tell_at(finding, text, i, hash);
            }
        }
    }
}
