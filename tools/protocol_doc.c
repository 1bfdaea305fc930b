/* protocol_doc.c - prints docs/messages.md from the tables of messages.h, limits.h and errors.h.
 *
 * Its output depends on nothing but those tables. `zig build docs` stores it, `zig build test`
 * compares it with what is stored. */
#include <stdio.h>

#include "protocol/messages.h"

/* How a kind is told to the reader; a new kind of messages.h gets its line here. */
#define KIND_u64    "whole number"
#define KIND_i64    "signed number"
#define KIND_flag   "flag"
#define KIND_str    "text"
#define KIND_bytes  "bytes"
#define KIND_bson   "BSON document"
#define KIND_key    "key"
#define KIND_vector "vector"

static void print_table_head(const char *first)
{
    printf("| %s | kind | at most | unit | meaning |\n|---|---|---|---|---|\n", first);
}

/* 1 is all that a flag can be: no bound worth a word. */
static void print_field(const char *name, const char *kind, uint64_t max, const char *unit,
                        const char *doc)
{
    printf("| `%s` | %s | ", name, kind);
    if (max == TW_I64_MAX) {
        printf("2^63-1");
    } else if (max == TW_SEQNO_MAX) {
        printf("2^53-1");
    } else if (max > 1) {
        printf("%llu", (unsigned long long)max);
    }
    printf(" | %s | %s |\n", unit, doc);
}

#define F_PRINT(kind, name, max, unit, doc)                                                        \
    print_field(#name, KIND_##kind, (uint64_t)(max), unit, doc);
#define L_PRINT(item, name, max, unit, doc)                                                        \
    print_field(#name, "list of [" #item "](#item-" #item ")", (uint64_t)(max), unit, doc);

static void print_messages(void)
{
    printf("## Messages\n\n| id | message | sender | meaning |\n|---|---|---|---|\n");
#define M(id, message, sender, doc)                                                                \
    printf("| %d | [%s](#message-%s) | %s | %s |\n", (id), #message, #message, #sender, doc);
    TW_MESSAGES(M)
#undef M
#define M(id, message, sender, doc)                                                                \
    printf("\n<a id=\"message-%s\"></a>\n### %d %s\nSent by: %s. %s\n\n", #message, (id),          \
           #message, #sender, doc);                                                                \
    print_table_head("field");                                                                     \
    TW_FIELDS_##message(F_PRINT, L_PRINT)
    TW_MESSAGES(M)
#undef M
}

static void print_items(void)
{
    printf("\n## Items of lists\n");
#define I(item, doc)                                                                               \
    printf("\n<a id=\"item-%s\"></a>\n### %s\n%s\n\n", #item, #item, doc);                         \
    print_table_head("field");                                                                     \
    TW_ITEM_##item(F_PRINT, L_PRINT)
    TW_ITEMS(I)
#undef I
}

static void print_limits(void)
{
    printf("\n## Limits\n\n| limit | value | unit | what it bounds, and what happens at it "
           "|\n|---|---|---|---|\n");
#define L(name, value, unit, reason)                                                               \
    printf("| `%s` | %d | %s | %s |\n", #name, (value), unit, reason);
    TW_LIMITS(L)
#undef L
    printf("| `LOG_SUPERSEDED_BYTES` | %lld | bytes | Superseded rows kept; then the floor passes. "
           "|\n",
           TW_LOG_SUPERSEDED_BYTES);
}

static void print_errors(void)
{
    printf(
        "\n## Errors\n\n"
        "`code` is what a client reads, `close` the websocket's number where it is closed for it,\n"
        "`retry` what the client should do: `no`, `now`, or `backoff` (later, with growing "
        "waits).\n\n"
        "| code | close | retry | meaning |\n|---|---|---|---|\n");
#define X(name, code, number, retry, text)                                                         \
    printf("| `%s` | %d | %s | %s |\n", code, number, retry, text);
    TW_ERRORS(X)
#undef X
}

int main(void)
{
    printf(
        "# Messages between actors, limits and errors\n\n"
        "Made by `zig build docs` from `protocol/messages.h`, `protocol/limits.h` and\n"
        "`protocol/errors.h`: change those, not this file.\n\n"
        "A message is the msgpack array `[version, id, request, fields...]`; the version is %d. "
        "An\n"
        "item of a list is the array of its fields. Text is a msgpack str; bytes, keys and BSON\n"
        "documents are bin, and a bin of no bytes means that there is none. A vector is\n"
        "`[[srv_id, seqno], ...]`, sorted, each origin once. Reading is strict: every bound below "
        "is\n"
        "checked, and nothing may stand behind the last field.\n\n",
        TW_MESSAGES_VERSION);
    print_messages();
    print_items();
    print_limits();
    print_errors();
    return ferror(stdout) != 0 || fflush(stdout) != 0 ? 1 : 0;
}
