/* bson_text.h - documents for tests, written as JSON. */
#pragma once

#include "protocol/json.h"

/* Reads JSON into arena; ends the program with a message when it is wrong. ' stands for ". */
tw_bson bson_text(tw_arena *arena, const char *json);
/* The JSON of a document, terminated, in arena. */
const char *bson_shown(tw_arena *arena, tw_bson doc);
