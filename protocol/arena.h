/* arena.h - memory that belongs to one message, request or load, and goes with it at once. */
#pragma once

#include "protocol/base.h"

typedef struct tw_arena_block tw_arena_block;

typedef struct tw_arena {
    tw_arena_block *first; /* own; the list of blocks, the newest first */
    size_t used;           /* bytes handed out since the last reset */
    size_t max;            /* bytes; beyond it tw_arena_alloc gives NULL */
} tw_arena;

void tw_arena_init(tw_arena *arena, size_t max);
void tw_arena_fini(tw_arena *arena);
/* Forgets all that was handed out; keeps one block of memory for the next use. */
void tw_arena_reset(tw_arena *arena);
/* 16-byte aligned, not cleared; NULL = no memory or beyond max. Valid until reset or fini. */
void *tw_arena_alloc(tw_arena *arena, size_t bytes);
void *tw_arena_zero(tw_arena *arena, size_t count, size_t bytes);
/* Copies; the .ptr is NULL when there is no memory and len was not 0. */
tw_str tw_arena_str(tw_arena *arena, tw_str text);
tw_bson tw_arena_bson(tw_arena *arena, tw_bson doc);
tw_key tw_arena_key(tw_arena *arena, tw_key key);
tw_vector tw_arena_vector(tw_arena *arena, tw_vector vector);
/* A formatted, terminated text; "" when there is no memory. */
const char *tw_arena_format(tw_arena *arena, const char *format, ...) TW_PRINTF(2, 3);
