/* publication.h - how a follower knows that it has missed something.
 *
 * A publication is [life, number, message]: 16 bytes, big-endian, before the encoded message. life
 * is drawn at random when a publisher starts, number counts its publications from 1. A publication
 * without a message is a beat: it repeats the last number while nothing is published, so that the
 * loss of the very last one, or of a connection, is seen too; and whoever has just begun to follow
 * is sent one, as it waits for a first sign. Pure: no I/O, no clock. */
#pragma once

#include "protocol/base.h"

enum { PUBLICATION_HEAD_BYTES = 16 };

typedef struct publication_head {
    uint64_t life;
    uint64_t number;
} publication_head;

typedef enum publication_verdict {
    PUBLICATION_NEXT,     /* deliver it; a beat: all is well */
    PUBLICATION_REPEATED, /* seen before: ignore it */
    PUBLICATION_GAP,      /* tell of the gap, then deliver it */
} publication_verdict;

typedef struct publication_reader {
    publication_head seen; /* life 0: nothing yet */
} publication_reader;

typedef struct publication_beat {
    uint64_t due_ms;    /* UINT64_MAX: never, so nothing is published */
    unsigned followers; /* that had come when it was asked last */
} publication_beat;

void publication_head_write(publication_head head, char out[PUBLICATION_HEAD_BYTES]);
/* Splits a publication. TW_E_BAD_MESSAGE: too short, or life 0. message is empty for a beat. */
tw_err publication_head_read(tw_str bytes, publication_head *head, tw_str *message);

/* Is a beat to be sent now? followers: that have come so far, whether they are still there or not.
 *  */
bool publication_beat_is_due(publication_beat *self, unsigned followers, uint64_t now_ms);

/* Judges what has come. The first ever is a gap of 0: what was published before was not seen.
 * lost: how many publications are known to be missing; a new life counts as one at least. */
publication_verdict publication_reader_take(publication_reader *self, publication_head head,
                                            bool is_beat, uint64_t *lost);
