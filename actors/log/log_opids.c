/* log_opids.c - see log_opids.h. An open table of half-filled slots, linear probing; a removal
 * closes the gap, so there are no tombstones. */
#include "actors/log/log_opids.h"

enum { SLOTS_FIRST = 1024, NUMBER_BYTES_MAX = 10 };

tw_err log_opids_init(log_opids *opids, uint64_t seed)
{
    *opids = (log_opids){.seed = seed, .mask = SLOTS_FIRST - 1};
    opids->slots = tw_alloc_zero(SLOTS_FIRST, sizeof *opids->slots);
    return opids->slots == NULL ? TW_E_NO_MEMORY : TW_OK;
}

void log_opids_fini(log_opids *opids)
{
    tw_free(opids->slots);
    *opids = (log_opids){0};
}

uint32_t log_opids_hash(const log_opids *opids, tw_str id)
{
    uint32_t hash = (uint32_t)tw_hash(id.ptr, id.len, opids->seed);
    return hash == 0 ? 1 : hash;
}

static void place(log_opid_slot *slots, size_t mask, log_opid_slot slot)
{
    size_t at = slot.hash & mask;
    while (slots[at].hash != 0) {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

tw_err log_opids_reserve(log_opids *opids, size_t more)
{
    size_t slots = opids->mask + 1;
    while ((opids->count + more) * 4 > slots * 3) {
        slots *= 2;
    }
    if (slots == opids->mask + 1) {
        return TW_OK;
    }
    log_opid_slot *wider = tw_alloc(slots * sizeof *wider);
    if (wider == NULL) {
        return TW_E_NO_MEMORY;
    }
    /* Not asked for as zeros: pages that are read before they are written fault twice, and the
     * second time interrupts the other cores. */
    memset(wider, 0, slots * sizeof *wider);
    for (size_t i = 0; i <= opids->mask; i++) {
        if (opids->slots[i].hash != 0) {
            place(wider, slots - 1, opids->slots[i]);
        }
    }
    tw_free(opids->slots);
    opids->slots = wider;
    opids->mask = slots - 1;
    return TW_OK;
}

void log_opids_add(log_opids *opids, uint32_t hash, uint64_t group)
{
    TW_ASSERT(hash != 0);
    TW_ASSERT(opids->count < opids->mask);
    place(opids->slots, opids->mask, (log_opid_slot){hash, (uint32_t)group});
    opids->count++;
}

void log_opids_remove(log_opids *opids, uint32_t hash, uint64_t group)
{
    size_t mask = opids->mask;
    size_t at = hash & mask;
    while (opids->slots[at].hash != hash || opids->slots[at].group != (uint32_t)group) {
        TW_ASSERT(opids->slots[at].hash != 0); /* it was added */
        at = (at + 1) & mask;
    }
    /* Those behind it move up, unless they stand before their own place then. */
    for (size_t next = (at + 1) & mask; opids->slots[next].hash != 0; next = (next + 1) & mask) {
        size_t home = opids->slots[next].hash & mask;
        if (((next - home) & mask) >= ((next - at) & mask)) {
            opids->slots[at] = opids->slots[next];
            at = next;
        }
    }
    opids->slots[at] = (log_opid_slot){0};
    opids->count--;
}

void log_opids_expect(const log_opids *opids, uint32_t hash)
{
    __builtin_prefetch(&opids->slots[hash & opids->mask]);
}

bool log_opids_next(const log_opids *opids, uint32_t hash, uint64_t newest, size_t *at,
                    uint64_t *group)
{
    TW_ASSERT(hash != 0);
    for (;;) {
        const log_opid_slot *slot = &opids->slots[(hash + *at) & opids->mask];
        if (slot->hash == 0) {
            return false;
        }
        ++*at;
        if (slot->hash == hash) {
            *group = newest - (uint32_t)((uint32_t)newest - slot->group);
            return true;
        }
    }
}

/* ---- a group as bytes: length and id, length and key, version, seqno, count ---- */

/* Seven bits a byte, the lowest first. */
static void pack_number(tw_buf *out, uint64_t value)
{
    for (; value > 127; value >>= 7) {
        tw_buf_add_byte(out, (char)(value | 128));
    }
    tw_buf_add_byte(out, (char)value);
}

void log_opids_pack(tw_buf *out, const log_opid *opid)
{
    pack_number(out, opid->id.len);
    tw_buf_add_str(out, opid->id);
    pack_number(out, opid->key.len);
    tw_buf_add(out, opid->key.ptr, opid->key.len);
    pack_number(out, (uint64_t)opid->version);
    pack_number(out, opid->seqno);
    pack_number(out, opid->count);
}

static bool unpack_number(tw_str group, size_t *at, uint64_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < NUMBER_BYTES_MAX && *at < group.len; i++) {
        uint64_t byte = (uint8_t)group.ptr[(*at)++];
        *out |= (byte & 127) << (7 * i);
        if (byte < 128) {
            return true;
        }
    }
    return false;
}

static bool unpack_bytes(tw_str group, size_t *at, size_t max, tw_str *out)
{
    uint64_t len;
    if (!unpack_number(group, at, &len) || len > max || len > group.len - *at) {
        return false;
    }
    *out = (tw_str){group.ptr + *at, (size_t)len};
    *at += (size_t)len;
    return true;
}

tw_err log_opids_unpack(tw_str group, size_t *at, log_opid *out)
{
    if (*at == group.len) {
        return TW_E_END;
    }
    tw_str key;
    uint64_t version;
    if (!unpack_bytes(group, at, TW_OPID_MAX + 8, &out->id) || out->id.len == 0 ||
        !unpack_bytes(group, at, LOG_KEY_BYTES_MAX, &key) || !unpack_number(group, at, &version) ||
        !unpack_number(group, at, &out->seqno) || !unpack_number(group, at, &out->count) ||
        version > INT64_MAX) {
        return TW_E_CORRUPT;
    }
    out->key = (tw_key){(const uint8_t *)key.ptr, key.len};
    out->version = (int64_t)version;
    return TW_OK;
}
