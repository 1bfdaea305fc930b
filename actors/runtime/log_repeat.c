/* log_repeat.c - see log_repeat.h. */
#include "actors/runtime/log_repeat.h"

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_of_word(char byte)
{
    return is_digit(byte) || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           byte == '_';
}

uint64_t log_repeat_hash(const char *line)
{
    TW_ASSERT(line != NULL);
    uint64_t hash = 0;
    char before = ' ';
    for (const char *at = line; *at != '\0';) {
        size_t digits = 0;
        while (is_digit(at[digits])) {
            digits++;
        }
        bool is_number = digits > 0 && !is_of_word(before) && !is_of_word(at[digits]);
        size_t taken = digits > 0 ? digits : 1;
        hash = is_number ? tw_hash("#", 1, hash) : tw_hash(at, taken, hash);
        at += taken;
        before = at[-1];
    }
    return hash;
}

/* The line's place, or the one that it takes. */
static log_repeat *place_of(log_repeats *self, uint64_t hash)
{
    log_repeat *oldest = &self->at[0];
    for (size_t i = 0; i < TW_COUNT(self->at); i++) {
        log_repeat *each = &self->at[i];
        if (each->pause_ms > 0 && each->hash == hash) {
            return each;
        }
        bool is_older = each->pause_ms == 0
                            ? oldest->pause_ms > 0
                            : oldest->pause_ms > 0 && each->said_ms < oldest->said_ms;
        oldest = is_older ? each : oldest;
    }
    *oldest = (log_repeat){.hash = hash};
    return oldest;
}

bool log_repeats_say(log_repeats *self, uint64_t now_ms, const char *line, uint64_t *times)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(times != NULL);
    log_repeat *place = place_of(self, log_repeat_hash(line));
    bool is_new = place->pause_ms == 0 || now_ms - place->said_ms >= TW_LOG_REPEAT_NEW_MS;
    place->said_ms = now_ms;
    tw_format(place->line, sizeof place->line, "%s", line);
    *times = place->untold;
    if (!is_new && now_ms - place->told_ms < place->pause_ms) {
        place->untold++;
        return false;
    }
    uint64_t doubled = is_new ? TW_LOG_REPEAT_MIN_MS : 2 * place->pause_ms;
    place->pause_ms = doubled < TW_LOG_REPEAT_MAX_MS ? doubled : TW_LOG_REPEAT_MAX_MS;
    place->told_ms = now_ms;
    place->untold = 0;
    return true;
}

const char *log_repeats_due(log_repeats *self, uint64_t now_ms, uint64_t *times)
{
    TW_ASSERT(self != NULL);
    TW_ASSERT(times != NULL);
    for (size_t i = 0; i < TW_COUNT(self->at); i++) {
        log_repeat *each = &self->at[i];
        if (each->untold > 0 && now_ms - each->said_ms >= TW_LOG_REPEAT_NEW_MS) {
            *times = each->untold;
            each->untold = 0;
            return each->line;
        }
    }
    return NULL;
}
