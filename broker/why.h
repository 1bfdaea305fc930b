/* why.h - the cause of a refusal, in words for the person who sent what was refused. */
#pragma once

#include "protocol/base.h"
#include "protocol/limits.h"

typedef struct broker_why {
    char text[TW_ERROR_TEXT_MAX]; /* terminated; "" = nothing to tell */
    char rule[64];                /* of rules.h: the rule's name; "" otherwise */
} broker_why;

/* Writes the cause and returns err, so that a function can end in it. why may be NULL. */
tw_err broker_refuse(broker_why *why, tw_err err, const char *format, ...) TW_PRINTF(3, 4);

/* What a peer sent, fit to be shown to it: at most TW_SHOWN_INPUT_MAX bytes of it, all that is not
 * plain ASCII escaped, so that a cut never falls into a letter. Returns out. */
enum { BROKER_SHOWN_MAX = TW_SHOWN_INPUT_MAX * 4 + 4 };
const char *broker_show(tw_str input, char out[BROKER_SHOWN_MAX]);
