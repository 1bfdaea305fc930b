/* tidewire_feed.c - the feed of libtidewire: rows in the caller's form, positions in a file. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/json.h"

#include "clients/c/service_feed.h"
#include "clients/c/tidewire.h"
#include "clients/c/tidewire_priv.h"

enum { POSITION_TEXT_MAX = 64 };

struct tidewire_feed {
    service_feed *feed; /* own */
    char *file;         /* own; NULL: positions are the caller's affair */
    tidewire_form form;
    char op[TW_SHOWN_INPUT_MAX];
    tw_buf key, doc; /* own; of the row told last */
};

/* ---- the position in a file: the log's srv_id, a space, the row, a newline ---- */
static tidewire_result fail_file(tidewire_error *error, const char *what, const char *path)
{
    service_failure failure;
    char text[256] = "";
    const char *cause = strerror_r(errno, text, sizeof text);
    (void)(service_fail(&failure, TW_E_DISK, "Positions need a folder that can be written.",
                        "%.200s cannot be %s: %s.", path, what, cause) == TW_OK);
    return tidewire_fail(error, &failure);
}

/* No file: the position stays as it was given. */
static tidewire_result load(const char *path, uint64_t *srv_id, uint64_t *position,
                            tidewire_error *error)
{
    char text[POSITION_TEXT_MAX + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? TIDEWIRE_OK : fail_file(error, "read", path);
    }
    ssize_t len = read(fd, text, POSITION_TEXT_MAX);
    (void)close(fd);
    if (len < 0) {
        return fail_file(error, "read", path);
    }
    const char *end = text + (len > 0 && text[len - 1] == '\n' ? len - 1 : len);
    const char *space = memchr(text, ' ', (size_t)len);
    space = space == NULL ? end : space;
    tw_str srv = {text, (size_t)(space - text)};
    tw_str row = {space + (space < end), (size_t)(end - space - (space < end))};
    if (tw_parse_u64(srv, INT64_MAX, srv_id) != TW_OK || *srv_id == 0 ||
        tw_parse_u64(row, INT64_MAX, position) != TW_OK) {
        return tidewire_fail_input(error, TW_E_BAD_SINCE,
                                   "%.200s holds no position; delete it to begin anew.", path);
    }
    return TIDEWIRE_OK;
}

static bool write_synced(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        return false;
    }
    bool is_written = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    return close(fd) == 0 && is_written;
}

/* The name of a file is on disk when its folder is. */
static bool sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    tw_format(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path + 1),
              slash == NULL ? "." : path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool is_synced = fsync(fd) == 0;
    (void)close(fd);
    return is_synced;
}

tidewire_result tidewire_feed_save(tidewire_feed *feed, tidewire_error *error)
{
    char beside[PATH_MAX], text[POSITION_TEXT_MAX];
    if (feed->file == NULL) {
        return tidewire_fail_input(error, TW_E_BAD_MESSAGE,
                                   "This feed was opened without position_file.");
    }
    size_t len = tw_format(text, sizeof text, "%llu %llu\n",
                           (unsigned long long)service_feed_srv_id(feed->feed),
                           (unsigned long long)service_feed_position(feed->feed));
    tw_format(beside, sizeof beside, "%s.new", feed->file);
    if (!write_synced(beside, text, len) || rename(beside, feed->file) != 0 ||
        !sync_folder(feed->file)) {
        return fail_file(error, "written", feed->file);
    }
    return tidewire_succeed(error);
}

/* ---- the feed ---- */
static tidewire_result start(tidewire_feed *self, const char *url, const char *collection,
                             const tidewire_feed_options *given, tidewire_error *error)
{
    service_failure failure;
    uint64_t after = given->after;
    uint64_t srv_id = given->after_srv_id;
    if (given->position_file != NULL) {
        size_t len = strlen(given->position_file);
        self->file = tw_alloc(len + 1);
        if (self->file == NULL || len + sizeof ".new" > PATH_MAX) {
            return tidewire_fail_input(error, TW_E_TOO_BIG,
                                       "The name of position_file is too "
                                       "long.");
        }
        memcpy(self->file, given->position_file, len + 1);
        tidewire_result result = load(self->file, &srv_id, &after, error);
        if (result != TIDEWIRE_OK) {
            return result;
        }
    }
    if (after != TIDEWIRE_START && after != TIDEWIRE_NOW && srv_id == 0) {
        return tidewire_fail_input(error, TW_E_BAD_SINCE,
                                   "A position is of a log: give its after_srv_id too.");
    }
    service_identity who;
    service_feed_options options = {.database = given->database,
                                    .collection = collection,
                                    .identity = tidewire_identity_of(given->identity, &who),
                                    .srv_id = srv_id,
                                    .after = after};
    uint64_t deadline_ms = tidewire_deadline(given->deadline_ms, TIDEWIRE_DEADLINE_MS);
    if (service_feed_open(&self->feed, url, &options, deadline_ms, &failure) != TW_OK) {
        return tidewire_fail(error, &failure);
    }
    return tidewire_succeed(error);
}

tidewire_result tidewire_feed_open(tidewire_feed **out, const char *url, const char *collection,
                                   const tidewire_feed_options *options, tidewire_error *error)
{
    static const tidewire_feed_options defaults = {0};
    *out = NULL;
    if (url == NULL || collection == NULL) {
        return tidewire_fail_input(error, TW_E_BAD_MESSAGE,
                                   "A feed needs an address and a "
                                   "collection.");
    }
    tidewire_feed *self = tw_alloc_zero(1, sizeof *self);
    if (self == NULL) {
        service_failure failure;
        (void)(service_fail(&failure, TW_E_NO_MEMORY, NULL, "No memory for a feed.") == TW_OK);
        return tidewire_fail(error, &failure);
    }
    const tidewire_feed_options *given = options == NULL ? &defaults : options;
    self->form = given->documents;
    tw_buf_init(&self->key, (size_t)2 * TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&self->doc, (size_t)2 * TW_ACTOR_MESSAGE_MAX);
    tidewire_result result = start(self, url, collection, given, error);
    if (result != TIDEWIRE_OK) {
        tidewire_feed_close(&self);
        return result;
    }
    *out = self;
    return TIDEWIRE_OK;
}

void tidewire_feed_close(tidewire_feed **feed)
{
    if (feed == NULL || *feed == NULL) {
        return;
    }
    tidewire_feed *self = *feed;
    *feed = NULL;
    service_feed_close(&self->feed);
    tw_free(self->file);
    tw_buf_fini(&self->key);
    tw_buf_fini(&self->doc);
    tw_free(self);
}

static tidewire_data render_key(tidewire_feed *self, tw_bson row)
{
    tw_bson_value key = tw_bson_get(row, TW_STR("key"));
    tidewire_data none = {self->form, NULL, 0};
    tw_buf_clear(&self->key);
    if (key.type == 0) {
        return none;
    }
    if (self->form == TIDEWIRE_JSON) {
        tw_json_write_value(&self->key, key);
        tw_buf_add_byte(&self->key, '\0');
        return self->key.err != TW_OK
                   ? none
                   : (tidewire_data){TIDEWIRE_JSON, self->key.ptr, self->key.len - 1};
    }
    tw_buf bson;
    tw_bson_builder b;
    tw_buf_init(&bson, TW_ACTOR_MESSAGE_MAX);
    tw_bson_begin(&b, &bson);
    tw_bson_add_value(&b, TW_STR("key"), key);
    tw_bson doc = tw_bson_end(&b);
    tidewire_data out =
        bson.err != TW_OK ? none : tidewire_render(&self->key, doc, TIDEWIRE_MSGPACK);
    tw_buf_fini(&bson);
    return out;
}

tidewire_result tidewire_feed_next(tidewire_feed *feed, uint32_t deadline_ms, tidewire_row *row,
                                   tidewire_error *error)
{
    tw_bson told;
    *row = (tidewire_row){0};
    if (service_feed_next(feed->feed, tidewire_deadline(deadline_ms, TIDEWIRE_DEADLINE_MS),
                          &told) != TW_OK) {
        return tidewire_fail(error, service_feed_failure(feed->feed));
    }
    tw_str op = tw_bson_get_str(told, TW_STR("op"));
    tw_format(feed->op, sizeof feed->op, "%.*s", (int)op.len, op.ptr == NULL ? "" : op.ptr);
    row->position = service_feed_position(feed->feed);
    row->op = feed->op;
    row->version = tw_bson_get_i64_or(told, TW_STR("version"), 0);
    row->srv_id = (uint64_t)tw_bson_get_i64_or(told, TW_STR("srv_id"), 0);
    row->seqno = (uint64_t)tw_bson_get_i64_or(told, TW_STR("seqno"), 0);
    row->key = render_key(feed, told);
    row->doc = tidewire_render(&feed->doc, tw_bson_get_doc(told, TW_STR("doc")), feed->form);
    return tidewire_succeed(error);
}

uint64_t tidewire_feed_position(const tidewire_feed *feed)
{
    return service_feed_position(feed->feed);
}

uint64_t tidewire_feed_srv_id(const tidewire_feed *feed)
{
    return service_feed_srv_id(feed->feed);
}

uint64_t tidewire_feed_replays(const tidewire_feed *feed)
{
    return service_feed_replays(feed->feed);
}
