/* fake_store.h - a store and a log_reader that keep their log in memory: a test double for the unit
 * tests of those who ask them. Writes are applied at once, published as log_batch, and nothing is
 * on disk; the rules of collections are not known here: a document with "break_rule": true breaks
 * one. */
#pragma once

#include <stdatomic.h>

#include "broker/catalog.h"

#include "actors/runtime/actor.h"

typedef struct fake_log fake_log;

fake_log *fake_log_new(void);
void fake_log_free(fake_log **log);
uint64_t fake_log_head(fake_log *log);
/* The next `count` writes are applied and then answered `unavailable`, as if the answer was lost.
 * */
void fake_log_lose_answers(fake_log *log, int count);
/* The next `count` questions to readers are answered `unavailable`. */
void fake_log_fail_reads(fake_log *log, int count);
/* Write messages and their operations so far. */
uint64_t fake_log_writes(fake_log *log);
uint64_t fake_log_ops(fake_log *log);

/* Options of both: the fake_log. */
extern const tw_actor_class fake_store_class;
extern const tw_actor_class fake_reader_class;
