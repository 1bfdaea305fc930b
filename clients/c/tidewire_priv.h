/* tidewire_priv.h - what the parts of libtidewire share: tidewire.c, _publisher.c, _feed.c. */
#pragma once

#include "clients/c/service.h"
#include "clients/c/tidewire.h"

enum { TIDEWIRE_DEADLINE_MS = 10000 }; /* where the caller names none */

static inline uint64_t tidewire_deadline(uint32_t given_ms, uint32_t otherwise_ms)
{
    return service_clock_ms() + (given_ms != 0 ? given_ms : otherwise_ms);
}

/* Gives the failure to the caller, as the result that it is. error may be NULL. */
tidewire_result tidewire_fail(tidewire_error *error, const service_failure *failure);
/* Notes wrong arguments. */
tidewire_result tidewire_fail_input(tidewire_error *error, tw_err code, const char *format, ...)
    TW_PRINTF(3, 4);
tidewire_result tidewire_succeed(tidewire_error *error);
/* Reads data as the value of a field of that name: *out is a document of this one field. what: its
 * name for people. TIDEWIRE_BAD_INPUT: no such value, or more than one. */
tidewire_result tidewire_read(tw_arena *arena, tidewire_data data, const char *name, tw_bson *out,
                              tidewire_error *error);
/* The same for a document. */
tidewire_result tidewire_read_doc(tw_arena *arena, tidewire_data data, const char *what,
                                  tw_bson *out, tidewire_error *error);
/* Renders doc into out, as the form says; .bytes NULL where doc is absent or there is no memory. */
tidewire_data tidewire_render(tw_buf *out, tw_bson doc, tidewire_form form);

/* The same for what stands below; NULL for NULL. */
const service_identity *tidewire_identity_of(const tidewire_identity *given, service_identity *out);
