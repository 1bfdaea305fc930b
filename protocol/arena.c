/* arena.c - a list of blocks; the first is bumped until it is full; a larger goes before it.
 *
 * Invariants
 * 1. first is the block that is bumped; those behind it are full, or hold one large request each.
 * 2. Offsets and sizes are multiples of ARENA_ALIGN, so each answer is aligned as its block is.
 * 3. used counts rounded requests, and is at most max. */
#include "protocol/arena.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    ARENA_ALIGN = 16,
    ARENA_BLOCK_MIN = 4096,    /* bytes; the first block */
    ARENA_BLOCK_MAX = 1 << 20, /* bytes; blocks double up to here */
    ARENA_BLOCK_KEPT = 65536,  /* bytes; what a reset may keep */
};

struct tw_arena_block {
    tw_arena_block *next; /* own */
    size_t cap;           /* bytes behind this header */
    size_t used;
    size_t padding; /* the header is a multiple of ARENA_ALIGN */
};

static_assert(sizeof(tw_arena_block) % ARENA_ALIGN == 0, "what follows the header is aligned");

void tw_arena_init(tw_arena *arena, size_t max)
{
    *arena = (tw_arena){.max = max};
}

static void free_blocks(tw_arena_block *block)
{
    while (block != NULL) {
        tw_arena_block *next = block->next;
        tw_free(block);
        block = next;
    }
}

void tw_arena_fini(tw_arena *arena)
{
    free_blocks(arena->first);
    *arena = (tw_arena){.max = arena->max};
}

/* Blocks double, so the first that is small enough to be kept is the largest of those. */
void tw_arena_reset(tw_arena *arena)
{
    tw_arena_block *kept = NULL;
    tw_arena_block *block = arena->first;
    while (block != NULL) {
        tw_arena_block *next = block->next;
        if (kept == NULL && block->cap <= ARENA_BLOCK_KEPT) {
            kept = block;
            kept->next = NULL;
            kept->used = 0;
        } else {
            tw_free(block);
        }
        block = next;
    }
    arena->first = kept;
    arena->used = 0;
}

/* Adds a block with room for bytes. A large request gets a block of its own behind the first, which
 * goes on being bumped. */
static tw_arena_block *add_block(tw_arena *arena, size_t bytes)
{
    tw_arena_block *first = arena->first;
    size_t cap = first == NULL ? ARENA_BLOCK_MIN : first->cap * 2;
    cap = cap > ARENA_BLOCK_MAX ? ARENA_BLOCK_MAX : cap;
    bool is_large = bytes > cap / 2;
    tw_arena_block *block = tw_alloc(sizeof *block + (is_large ? bytes : cap));
    if (block == NULL) {
        return NULL;
    }
    *block = (tw_arena_block){.cap = is_large ? bytes : cap};
    if (is_large && first != NULL) {
        block->next = first->next;
        first->next = block;
    } else {
        block->next = first;
        arena->first = block;
    }
    return block;
}

void *tw_arena_alloc(tw_arena *arena, size_t bytes)
{
    size_t left = arena->max - arena->used;
    if (bytes > left || bytes > SIZE_MAX / 2) { /* the latter so that no sum below wraps */
        return NULL;
    }
    size_t rounded = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    rounded = rounded == 0 ? ARENA_ALIGN : rounded; /* nothing has an address too */
    if (rounded > left) {
        return NULL;
    }
    tw_arena_block *block = arena->first;
    if (block == NULL || rounded > block->cap - block->used) {
        block = add_block(arena, rounded);
        if (block == NULL) {
            return NULL;
        }
    }
    unsigned char *bytes_at = (unsigned char *)(block + 1) + block->used;
    block->used += rounded;
    arena->used += rounded;
    return bytes_at;
}

void *tw_arena_zero(tw_arena *arena, size_t count, size_t bytes)
{
    if (bytes != 0 && count > SIZE_MAX / bytes) {
        return NULL;
    }
    void *ptr = tw_arena_alloc(arena, count * bytes);
    if (ptr != NULL) {
        memset(ptr, 0, count * bytes);
    }
    return ptr;
}

/* A copy; NULL when there is no memory, or nothing to copy. */
static void *copy(tw_arena *arena, const void *from, size_t len)
{
    void *ptr = len == 0 ? NULL : tw_arena_alloc(arena, len);
    if (ptr != NULL) {
        memcpy(ptr, from, len);
    }
    return ptr;
}

tw_str tw_arena_str(tw_arena *arena, tw_str text)
{
    return (tw_str){copy(arena, text.ptr, text.len), text.len};
}

tw_bson tw_arena_bson(tw_arena *arena, tw_bson doc)
{
    return (tw_bson){copy(arena, doc.ptr, doc.len), doc.len};
}

tw_key tw_arena_key(tw_arena *arena, tw_key key)
{
    return (tw_key){copy(arena, key.ptr, key.len), key.len};
}

tw_vector tw_arena_vector(tw_arena *arena, tw_vector vector)
{
    TW_ASSERT(vector.count <= SIZE_MAX / sizeof *vector.at);
    return (tw_vector){copy(arena, vector.at, vector.count * sizeof *vector.at), vector.count};
}

const char *tw_arena_format(tw_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    TW_ASSERT(len >= 0); /* only a wrong format fails, and the compiler checks formats */
    char *text = tw_arena_alloc(arena, (size_t)len + 1);
    if (text != NULL) {
        (void)vsnprintf(text, (size_t)len + 1, format, again);
    }
    va_end(again);
    return text == NULL ? "" : text;
}
