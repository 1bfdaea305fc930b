/* mongo_probe.h - looks at a deployment as the actors will: for `tidewire doctor`. No actor. */
#pragma once

#include "protocol/base.h"

typedef enum mongo_finding { MONGO_GOOD, MONGO_DOUBTFUL, MONGO_BAD } mongo_finding;

/* advice is "" for what is good; all texts are borrowed. */
typedef void (*mongo_report)(void *context, mongo_finding finding, const char *what,
                             const char *value, const char *advice);

/* Connection, replica set, version, rights, transactions, oplog, post-images and clock. Blocks for
 * some seconds at most; writes one small document into tidewire.meta. Thread: one; the library is
 * started. now_ms: of the wall clock. */
void mongo_probe(const char *uri, const char *database, uint64_t now_ms, mongo_report report,
                 void *context);
