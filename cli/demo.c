/* demo.c - see demo.h. Everything goes through the public protocol, as a client's writes do. */
#include "cli/demo.h"

#include <stdio.h>

#include "cli/import.h"
#include "cli/session.h"

static const char *const movies_built_in[] = {
    "{\"_id\":\"m1\",\"Title\":\"Metropolis\",\"Release Date\":\"1927\",\"IMDB Rating\":8.3}",
    "{\"_id\":\"m2\",\"Title\":\"Nosferatu\",\"Release Date\":\"1922\",\"IMDB Rating\":7.9}",
    "{\"_id\":\"m3\",\"Title\":\"The General\",\"Release Date\":\"1926\",\"IMDB Rating\":8.2}",
};

static const struct demo_record {
    const char *collection, *doc;
} report[] = {
    {"entries",
     "{\"proj_id\":7,\"report_uuid\":\"r1\",\"entry_uuid\":\"e1\",\"version_uuid\":\"v1\","
     "\"user_id\":314,\"clip_id\":\"11a\",\"content\":{\"speaker\":\"Ada\",\"text\":\"The "
     "tide turns at six.\"},\"modifies\":null,\"reason\":null}"},
    {"entries",
     "{\"proj_id\":7,\"report_uuid\":\"r1\",\"entry_uuid\":\"e2\",\"version_uuid\":\"v2\","
     "\"user_id\":314,\"clip_id\":\"11b\",\"content\":{\"speaker\":\"Grace\",\"text\":\"And "
     "the boats with it.\"},\"modifies\":null,\"reason\":null}"},
    {"entries",
     "{\"proj_id\":7,\"report_uuid\":\"r1\",\"entry_uuid\":\"e1\",\"version_uuid\":\"v3\","
     "\"user_id\":271,\"clip_id\":null,\"content\":{\"text\":\"The tide turns at "
     "seven.\"},\"modifies\":[\"v1\"],\"reason\":\"wrong hour\"}"},
    {"threads", "{\"proj_id\":7,\"thread_uuid\":\"t1\",\"user_uuid\":314,\"links\":[[\"report\","
                "\"r1\"],[\"entry\",\"e1\"]]}"},
    {"comments", "{\"proj_id\":7,\"comment_uuid\":\"c1\",\"thread_uuid\":\"t1\",\"user_uuid\":271,"
                 "\"text\":\"Was it not seven?\",\"authortime\":\"2022-01-01T17:05:00Z\"}"},
};

/* Records of a collection; -1: could not be asked (told). */
static int64_t count_of(cli_session *session, const char *collection)
{
    char fields[128];
    tw_str text;
    tw_bson reply;
    tw_format(fields, sizeof(fields), "\"collection\":\"%s\"", collection);
    if (cli_session_send(session, "count", tw_str_of(fields)) == 0 ||
        !cli_session_next(session, &text, &reply)) {
        return -1;
    }
    return tw_bson_get_i64_or(reply, TW_STR("count"), -1);
}

static int put_one(cli_session *session, const char *action, const char *collection,
                   const char *doc)
{
    char fields[2048];
    tw_str text;
    tw_bson reply;
    tw_format(fields, sizeof(fields), "\"collection\":\"%s\",\"doc\":%s", collection, doc);
    if (cli_session_send(session, action, tw_str_of(fields)) == 0 ||
        !cli_session_next(session, &text, &reply)) {
        return 1;
    }
    bool refused = tw_str_equal(tw_bson_get_str(reply, TW_STR("type")), TW_STR("error"));
    return refused ? cli_session_refused(session, reply) : 0;
}

static int load_movies(cli_session *session, const char *url, const char *movies)
{
    if (movies[0] != '\0') {
        char *words[] = {(char *)"tidewire import",
                         (char *)"movies",
                         (char *)movies,
                         (char *)"--url",
                         (char *)url,
                         (char *)"--any-certificate",
                         NULL};
        return cli_import((int)TW_COUNT(words) - 1, words);
    }
    printf("demo: no file of movies was given (--demo-data); a few built in\n");
    int status = 0;
    for (size_t i = 0; i < TW_COUNT(movies_built_in) && status == 0; i++) {
        status = put_one(session, "put", "movies", movies_built_in[i]);
    }
    return status;
}

int demo_load(int port, bool tls, const char *movies)
{
    char url[64];
    tw_format(url, sizeof(url), "ws%s://127.0.0.1:%d", tls ? "s" : "", port);
    cli_common common = {.url = url, .any_certificate = tls};
    cli_session session;
    int status = cli_session_open(&session, "serve", &common);
    if (status == 0 && count_of(&session, "movies") == 0) {
        status = load_movies(&session, url, movies);
    }
    if (status == 0 && count_of(&session, "entries") == 0) {
        for (size_t i = 0; i < TW_COUNT(report) && status == 0; i++) {
            status = put_one(&session, "insert", report[i].collection, report[i].doc);
        }
    }
    cli_session_close(&session);
    if (status == 0) {
        printf("demo data is there: movies, entries, threads, comments (project 7)\n");
    }
    fflush(stdout);
    return status;
}
