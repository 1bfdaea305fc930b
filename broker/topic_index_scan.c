/* topic_index_scan.c - parts whose filters demand nothing that an index finds: {a: {$ne: 1}}.
 *
 * They stand in slots. What a filter excludes ($ne, $nin, $nor of equalities) lists the slots that
 * a value excludes, so a look-up begins with all bits set, clears those that the document's values
 * exclude, and tells the rest: a write of a bit, not a filter held against a document. A value that
 * excludes is compared, not only hashed: here a mistake would lose an event.
 * Of a regular expression without plain letters the length and the bytes that a match may begin
 * with are held against those of the document's texts before it is told: some ns, not 300; once
 * where both versions of a change have the same. */
#include "broker/topic_index_priv.h"

static size_t words_of(size_t slots)
{
    return (slots + 63) / 64;
}

/* ---- what excludes ---- */

static bool is_same(const index_veto *veto, query_need_kind kind, tw_bson_value value)
{
    if (veto->kind != kind || kind == QUERY_NEED_SOME) {
        return veto->kind == kind;
    }
    if (kind == QUERY_NEED_TYPE) {
        return veto->value.type == value.type;
    }
    if (value.type == 0 || value.type == TW_BSON_NULL) {
        return veto->value.type == TW_BSON_NULL;
    }
    return tw_bson_bracket(veto->value.type) == tw_bson_bracket(value.type) &&
           tw_bson_compare(veto->value, value) == 0;
}

static index_veto *find_veto(const topic_index_collection *collection, uint16_t path, uint64_t hash,
                             query_need_kind kind, tw_bson_value value)
{
    hash_link *link = hash_table_first(&collection->vetoes, hash);
    for (; link != NULL; link = hash_table_next(link)) {
        index_veto *found = link->owner;
        if (found->path == path && is_same(found, kind, value)) {
            return found;
        }
    }
    return NULL;
}

static index_veto *make_veto(topic_index_collection *collection, uint16_t path, uint64_t hash,
                             const query_need *need)
{
    tw_bson_value value =
        need->kind == QUERY_NEED_TYPE ? (tw_bson_value){.type = need->type} : need->value;
    index_veto *veto = find_veto(collection, path, hash, need->kind, value);
    if (veto != NULL) {
        return veto;
    }
    veto = tw_alloc_zero(1, sizeof *veto + value.len);
    if (veto == NULL) {
        return NULL;
    }
    veto->path = path;
    veto->kind = need->kind;
    veto->value = (tw_bson_value){value.type, veto->bytes, value.len};
    if (value.len > 0) {
        memcpy(veto->bytes, value.ptr, value.len);
    }
    hash_table_add(&collection->vetoes, &veto->link, hash, veto);
    return veto;
}

static void free_veto_if_empty(topic_index_collection *collection, index_veto *veto)
{
    if (veto->count == 0) {
        hash_table_remove(&collection->vetoes, &veto->link);
        tw_free(veto->slots);
        tw_free(veto->owners);
        tw_free(veto);
    }
}

static bool make_room(index_veto *veto)
{
    TW_ASSERT(veto->count <= veto->cap);
    if (veto->count < veto->cap) {
        return true;
    }
    uint32_t cap = veto->cap * 2 + 1;
    uint32_t *slots = tw_realloc(veto->slots, cap * sizeof *slots);
    veto->slots = slots != NULL ? slots : veto->slots;
    index_vetoed **owners = tw_realloc(veto->owners, cap * sizeof *owners);
    veto->owners = owners != NULL ? owners : veto->owners;
    if (slots == NULL || owners == NULL) {
        return false;
    }
    veto->cap = cap;
    return true;
}

static tw_err join_veto(topic_index_collection *collection, topic_index_member *member,
                        uint16_t path, const query_need *need)
{
    index_vetoed *made = tw_alloc_zero(1, sizeof *made);
    uint64_t hash;
    tw_err err = TW_OK;
    const index_path *at = &collection->paths[path];
    if (need->kind != QUERY_NEED_VALUE) {
        hash = index_hash_need(at, need);
    } else if (!index_hash_value(NULL, at, need->value, &hash, &err)) {
        tw_free(made);
        return TW_OK; /* it excludes all the same, when the filter is held against a document */
    }
    index_veto *veto = made == NULL ? NULL : make_veto(collection, path, hash, need);
    if (veto == NULL || !make_room(veto)) {
        if (veto != NULL) {
            free_veto_if_empty(collection, veto);
        }
        tw_free(made);
        return TW_E_NO_MEMORY;
    }
    made->entry = (topic_index_entry){.member = member, .kind = INDEX_VETO, .path = path};
    made->entry.next_of_member = member->entries;
    made->veto = veto;
    made->at = veto->count++;
    veto->slots[made->at] = member->slot;
    veto->owners[made->at] = made;
    member->entries = &made->entry;
    index_count(&collection->paths[path], &made->entry, 1);
    return TW_OK;
}

void index_leave_veto(topic_index_collection *collection, topic_index_entry *entry)
{
    index_vetoed *gone = (index_vetoed *)entry;
    index_veto *veto = gone->veto;
    TW_ASSERT(veto->count > 0 && veto->owners[gone->at] == gone);
    uint32_t last = --veto->count;
    veto->slots[gone->at] = veto->slots[last];
    veto->owners[gone->at] = veto->owners[last];
    veto->owners[gone->at]->at = gone->at;
    free_veto_if_empty(collection, veto);
    tw_free(gone);
}

void index_meet_veto(index_finding *finding, uint64_t hash, query_need_kind kind,
                     tw_bson_value value)
{
    const index_veto *veto = find_veto(finding->collection, finding->path_at, hash, kind, value);
    uint64_t *left = finding->collection->left;
    uint32_t word = 0;
    uint64_t gone = 0; /* of that word: neighbours often follow each other */
    for (uint32_t i = 0; veto != NULL && i < veto->count; i++) {
        uint32_t slot = veto->slots[i];
        if (slot >> 6 != word) {
            left[word] &= ~gone;
            word = slot >> 6;
            gone = 0;
        }
        gone |= (uint64_t)1 << (slot & 63);
    }
    if (gone != 0) {
        left[word] &= ~gone;
    }
}

/* ---- what is tested of a slot ---- */

static tw_err join_screen(topic_index *index, topic_index_collection *collection,
                          topic_index_member *member)
{
    tw_str name;
    const regex_screen *asked;
    uint16_t path;
    index_screen *screen = &collection->screens[member->slot];
    *screen = (index_screen){0};
    if (member->part->any ||
        !query_screen_of(member->part->filter, &name, &asked, &screen->or_same)) {
        return TW_OK;
    }
    tw_err err = index_make_path(index, collection, name, &path);
    if (err != TW_OK) {
        return err == TW_E_BUSY ? TW_OK : err;
    }
    index_path *at = &collection->paths[path];
    if (at->column == NULL) {
        at->column = tw_alloc_zero(2, sizeof *at->column);
    }
    topic_index_entry *made = at->column == NULL ? NULL : tw_alloc_zero(1, sizeof *made);
    if (made == NULL) {
        index_leave_path(collection, path);
        return TW_E_NO_MEMORY;
    }
    *made = (topic_index_entry){.member = member, .kind = INDEX_SCREEN, .path = path};
    made->next_of_member = member->entries;
    member->entries = made;
    index_count(at, made, 1);
    memcpy(screen->bytes, asked->bytes, sizeof screen->bytes);
    screen->len_min = asked->len_min;
    screen->is_anchored = asked->is_anchored;
    screen->path = path;
    screen->is_used = true;
    return TW_OK;
}

void index_see_text(index_finding *finding, tw_bson_value value)
{
    index_column *column = finding->path->column;
    tw_str text = tw_bson_value_str(value);
    TW_ASSERT(column != NULL);
    column->has |= value.type == TW_BSON_REGEX ? INDEX_HAS_REGEX : 0;
    if (text.ptr == NULL || text.len > TW_REGEX_SUBJECT_MAX) {
        return;
    }
    const uint8_t *bytes = (const uint8_t *)text.ptr;
    for (size_t i = 0; i < text.len; i++) {
        column->bytes[bytes[i] >> 6] |= (uint64_t)1 << (bytes[i] & 63);
    }
    if (text.len > 0) {
        column->first[bytes[0] >> 6] |= (uint64_t)1 << (bytes[0] & 63);
    }
    column->len_max = text.len > column->len_max ? text.len : column->len_max;
    column->has |= INDEX_HAS_TEXT;
}

static bool passes(const topic_index_collection *collection, const index_screen *screen)
{
    if (!screen->is_used) {
        return true;
    }
    const index_column *column = collection->paths[screen->path].column;
    const uint64_t *has = screen->is_anchored ? column->first : column->bytes;
    uint64_t both = (screen->bytes[0] & has[0]) | (screen->bytes[1] & has[1]) |
                    (screen->bytes[2] & has[2]) | (screen->bytes[3] & has[3]);
    bool may_match = (column->has & INDEX_HAS_TEXT) != 0 && column->len_max >= screen->len_min &&
                     (both != 0 || screen->len_min == 0);
    return may_match || (screen->or_same && (column->has & INDEX_HAS_REGEX) != 0);
}

/* ---- slots ---- */

static bool make_slots(topic_index_collection *collection)
{
    TW_ASSERT(collection->scanned_count <= collection->scanned_cap);
    if (collection->scanned_count < collection->scanned_cap) {
        return true;
    }
    uint32_t cap = collection->scanned_cap == 0 ? 8 : collection->scanned_cap * 2;
    topic_index_member **scanned =
        tw_realloc(collection->scanned, cap * sizeof(topic_index_member *));
    collection->scanned = scanned != NULL ? scanned : collection->scanned;
    uint64_t *left = tw_realloc(collection->left, words_of(cap) * sizeof *left);
    collection->left = left != NULL ? left : collection->left;
    index_screen *screens = tw_realloc(collection->screens, cap * sizeof *screens);
    collection->screens = screens != NULL ? screens : collection->screens;
    uint64_t *before = tw_realloc(collection->left_before, words_of(cap) * sizeof *before);
    collection->left_before = before != NULL ? before : collection->left_before;
    if (scanned == NULL || left == NULL || before == NULL || screens == NULL) {
        return false;
    }
    collection->scanned_cap = cap;
    return true;
}

tw_err index_join_scan(topic_index *index, topic_index_collection *collection,
                       topic_index_member *member)
{
    query_needs found = {0};
    TW_ASSERT(!member->is_scanned && member->entries == NULL);
    if (!make_slots(collection)) {
        return TW_E_NO_MEMORY;
    }
    tw_err err =
        member->part->any ? TW_OK : query_vetoes_of(member->part->filter, &index->scratch, &found);
    if (err != TW_OK) {
        return err;
    }
    member->slot = collection->scanned_count++;
    member->is_scanned = true;
    collection->scanned[member->slot] = member;
    err = join_screen(index, collection, member);
    for (size_t i = 0; i < found.count && err == TW_OK; i++) {
        uint16_t path;
        err = index_make_path(index, collection, found.at[i].path, &path);
        if (err == TW_OK) {
            err = join_veto(collection, member, path, &found.at[i]);
            index_leave_path(collection, path);
        }
        err = err == TW_E_BUSY ? TW_OK : err; /* no room for its path: it is tested */
    }
    return err;
}

void index_leave_scan(topic_index_collection *collection, topic_index_member *member)
{
    TW_ASSERT(member->is_scanned && collection->scanned[member->slot] == member);
    topic_index_member *moved = collection->scanned[--collection->scanned_count];
    collection->scanned[member->slot] = moved;
    collection->screens[member->slot] = collection->screens[moved->slot];
    moved->slot = member->slot;
    for (topic_index_entry *at = moved->entries; at != NULL; at = at->next_of_member) {
        if (at->kind == INDEX_VETO) {
            const index_vetoed *vetoed = (const index_vetoed *)at;
            vetoed->veto->slots[vetoed->at] = moved->slot;
        }
    }
    member->is_scanned = false;
}

void index_begin_scan(topic_index_collection *collection, bool is_first)
{
    if (collection->scanned_count == 0) {
        return;
    }
    uint64_t *left = collection->left_before;
    collection->left_before = collection->left;
    collection->left = left;
    collection->has_before = !is_first;
    for (uint32_t i = 0; i < collection->paths_count; i++) {
        if (collection->paths[i].column != NULL) {
            collection->paths[i].column[1] = collection->paths[i].column[0];
            collection->paths[i].column[0] = (index_column){0};
        }
    }
    uint32_t whole = collection->scanned_count / 64;
    uint32_t rest = collection->scanned_count % 64;
    memset(collection->left, 0xff, whole * sizeof(uint64_t));
    if (rest > 0) {
        collection->left[whole] = ((uint64_t)1 << rest) - 1;
    }
}

/* True where all texts that screens ask for are as in the document before: then what was left there
 * has been told, or its screen fails again. */
static bool is_as_before(const topic_index_collection *collection)
{
    bool same = collection->has_before;
    for (uint32_t i = 0; same && i < collection->paths_count; i++) {
        const index_column *column = collection->paths[i].column;
        same = column == NULL || memcmp(&column[0], &column[1], sizeof *column) == 0;
    }
    return same;
}

void index_tell_scanned(index_finding *finding)
{
    const topic_index_collection *collection = finding->collection;
    bool again = is_as_before(collection);
    for (uint32_t i = 0; i < words_of(collection->scanned_count); i++) {
        uint64_t bits = collection->left[i];
        bits &= again ? ~collection->left_before[i] : UINT64_MAX;
        for (; bits != 0; bits &= bits - 1) {
            uint32_t slot = i * 64 + (uint32_t)__builtin_ctzll(bits);
            if (passes(collection, &collection->screens[slot])) {
                index_tell(finding, collection->scanned[slot]);
            }
        }
    }
}
