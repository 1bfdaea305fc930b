/* es_proxy_priv.h - what the files of the proxy share; nobody else includes it.
 *
 * Each message that asks for something is a `work`: it makes one call after the other to the
 * cluster, each with a function that takes the reply, until it is answered. All it holds is in its
 * arena, which goes with it. A function that calls es_call, es_answer or es_fail returns at once:
 * the work may be gone.
 *
 * An index of a collection is an alias (prefix + name) with one index behind it, alias-000001,
 * alias-000002, ...: so that another can be filled and put in its place. */
#pragma once

#include "broker/catalog.h"
#include "broker/position.h"
#include "broker/search_doc.h"
#include "broker/why.h"

#include "actors/search/curl_link.h"
#include "actors/search/es_proxy.h"

enum {
    ES_PROXY_MAGIC = 0x3e5b07a1,
    ES_WORK_MAGIC = 0x3e5b07a2,
    ES_WORK_MEMORY_MAX = 67108864, /* bytes: a reply as text and as BSON, and what is made of it */
    ES_NUMBER_FIRST = 1,           /* of an index behind its alias */
    ES_NUMBER_MAX = 999999,
    ES_NAME_MAX = 256,      /* of an index, with prefix and number */
    ES_PAGE = 500,          /* documents of a page of stream_search and keys */
    ES_PIT_KEEP = 60,       /* s; a page is to be asked for in this time */
    ES_MANAGE_MS = 10000,   /* for calls that make or change an index */
    ES_FEED_MS = 30000,     /* for the indexer's messages: given up, a bulk is written anew */
    ES_REFRESH_MS = 500,    /* a written index is made visible after so long */
    ES_TASK_POLL_MS = 1000, /* the cluster is asked to wait so long for a task */
    ES_FLAVOUR_MS = 5000,   /* for GET / */
    ES_ACTIVE_MS = 5000,    /* for the shards of a new index */
    ES_LOST_MS = 1000,      /* until a copy is tried to be undone again */
    ES_MODIFY_ATTEMPTS = 5, /* of a change that meets another one */
};

/* What tells the flavours apart (es_proxy_flavour.c). */
typedef struct es_flavour {
    const char *name;
    bool pit;              /* has points in time */
    const char *pit_open;  /* behind /index */
    const char *pit_id;    /* field of the answer */
    const char *pit_close; /* path */
    bool pit_list;         /* the close takes a list */
    const char *tie;       /* sort that tells any two documents apart */
    const char *lifecycle; /* setting that names a policy; NULL: none known */
} es_flavour;

/* One collection's index. */
typedef struct es_index {
    const catalog_collection *rules;
    char alias[ES_NAME_MAX];
    bool ready;      /* it is there, with its mapping */
    bool busy;       /* is being copied: writes wait */
    bool refreshing; /* a refresh is on its way */
    uint64_t srv;    /* the log it was filled from */
    bool told;       /* srv, n and written are known */
    bool unsaved;    /* they changed since they were last kept in the index */
    bool saving;
    uint64_t saved_ms;
    uint64_t n;                          /* rows up to here are written */
    position_set written, visible;       /* positions that it holds; that a search sees */
    position_set sent;                   /* of written, when the refresh was sent */
    char mapping_why[TW_ERROR_TEXT_MAX]; /* the declared mapping does not fit; "": it does */
} es_index;

typedef struct es_work es_work;
typedef void (*es_step)(es_work *work);

/* A reply of the cluster. Views, valid until the function returns. */
typedef struct es_reply {
    int status;
    tw_bson body; /* len 0: none */
    bool elastic; /* it names itself Elasticsearch in a header */
} es_reply;
typedef void (*es_answered)(es_work *work, const es_reply *reply);

typedef struct es_call {
    const char *method;
    const char *path;
    tw_str body;
    bool lines;
    bool idempotent;
    bool tolerant;    /* a status of 400 and more is given to answered too */
    bool large;       /* the reply may be as large as a message */
    uint32_t wait_ms; /* 0: until the work's deadline */
} es_call;

/* One function of search_ask, and how it is begun. */
typedef struct es_function {
    const char *name;
    es_step start;
    bool searches; /* min_since is waited for first */
} es_function;

struct es_work {
    uint32_t magic;
    struct es_proxy *proxy;
    es_work *next, **link; /* of the running ones */
    tw_arena arena;        /* own */
    tw_route route;
    tw_msg_id kind;
    tw_body asked; /* views into arena */
    uint64_t deadline_ms;
    const es_function *function; /* of search_ask */
    es_step start, ready;        /* ready: where es_need_indices goes on */
    es_index **indices;          /* of the targets */
    size_t indices_count, index_at;
    es_answered answered;
    es_step lost;           /* instead of failing, where the cluster does not answer; or NULL */
    es_step woken;          /* after es_wait */
    es_step after_position; /* of es_need_position */
    uint64_t wake_ms;       /* 0: waits for nothing */
    position_set sent;      /* what the refresh on its way will make visible */
    bool tolerant;
    bool own;        /* nobody asked: it is the proxy's own */
    bool ensuring;   /* es_need_indices: what is not there is about to be made */
    bool restarted;  /* the index had gone; once */
    tw_vector as_of; /* of the answer */
    tw_buf out;      /* own; a request on its way */
    tw_buf built;    /* own; BSON of the same */
    tw_buf reply;    /* own; BSON of the answer */
    void *state;     /* of the function; in arena */
};

typedef struct es_proxy {
    uint32_t magic;
    tw_actor *actor;
    const es_proxy_options *options;
    curl_link *link;           /* own */
    const es_flavour *flavour; /* NULL: not known yet */
    uint64_t prepare_ms;       /* when to look again for indices that are not there */
    es_index *indices;         /* own */
    size_t indices_count;
    es_work *running; /* own */
    size_t running_count;
    uint64_t answered, failed, refused, restarts;
} es_proxy;

/* ---- es_proxy.c: the life of a work ---- */
void es_call_send(es_work *work, const es_call *call, es_answered answered);
void es_answer(es_work *work, tw_msg_id id, const void *body);
void es_fail(es_work *work, tw_err err, const char *format, ...) TW_PRINTF(3, 4);
void es_fail_hint(es_work *work, tw_err err, const char *why, const char *hint);
/* The error that a reply of the cluster stands for, in its words; the work ends. */
void es_fail_reply(es_work *work, const es_reply *reply);
/* Of one item of _bulk: what its status and error mean. */
tw_err es_error_of(int status, tw_bson error, tw_str *why);
/* A formatted text of the work; "" where there is no memory: the work is to fail then. */
const char *es_text(es_work *work, const char *format, ...) TW_PRINTF(2, 3);
es_index *es_index_of(es_proxy *proxy, tw_str db, tw_str coll);
/* Begins BSON in work->built; es_json ends it as JSON in work->out. */
void es_begin(es_work *work, tw_bson_builder *b);
tw_str es_json(es_work *work, tw_bson_builder *b);
/* Begins the result of a search_ask; es_answer_result ends and sends it. */
void es_result_begin(es_work *work, tw_bson_builder *b);
void es_answer_result(es_work *work, tw_bson_builder *b);
/* An answer of items; the builders of items are done: docs are views. */
void es_answer_items(es_work *work, const tw_item_search_item *items, size_t count, tw_str cursor,
                     uint64_t counted);
bool es_is_dry(const es_work *work);
/* Path of the targets: "/a,b". */
const char *es_path(es_work *work, const char *behind);

/* Goes on after a time. */
void es_wait(es_work *work, uint64_t wait_ms, es_step woken);
/* A work that nobody asked for; lost: where the cluster does not answer. NULL: no memory. */
es_work *es_own_work(es_proxy *proxy, es_index **indices, size_t count, es_step lost);

/* ---- es_proxy_flavour.c ---- */
/* Takes the answer to GET /; an unknown engine is logged and leaves the flavour unknown. */
void es_flavour_found(es_proxy *proxy, const es_reply *reply);

/* ---- es_proxy_search.c ---- */
void es_search(es_work *work);
void es_stream(es_work *work); /* stream_search and keys */
void es_facet(es_work *work);
void es_stats(es_work *work);
void es_histogram(es_work *work);
void es_grouped(es_work *work);
void es_close_cursor(es_work *work);

/* ---- es_proxy_document.c ---- */
void es_multiget(es_work *work);
void es_bulk(es_work *work);
/* What a _source is: the document, with its key and its version. false: no memory. */
void es_document_add(es_work *work, tw_bson_builder *b, const es_index *index, tw_str id,
                     tw_bson source);
tw_bson_value es_document_key(es_work *work, const es_index *index, tw_str id);

/* ---- es_proxy_index.c ---- */
/* Makes sure that every target has its index, then goes on with ready. */
void es_need_indices(es_work *work, es_step ready);
void es_fields(es_work *work);
void es_commit(es_work *work);
/* Adds the settings and the mapping that a collection declares. */
void es_add_index_body(es_proxy *proxy, tw_bson_builder *b, const es_index *index,
                       const char *alias);
int64_t es_shards_of(const es_proxy *proxy, const es_index *index);
int64_t es_replicas_of(const es_proxy *proxy, const es_index *index);
/* The first (and only) value of a reply {"index-000001": {...}}; its name in *index. */
tw_bson es_only_of(const es_reply *reply, tw_str *index);
/* A value of the flat settings of an index: a text. */
tw_str es_setting_of(const es_reply *reply, const char *name);

/* ---- es_proxy_copy.c ---- */
void es_reindex(es_work *work);
void es_wipe(es_work *work);
void es_fix_ilm(es_work *work);
void es_fix_replicas(es_work *work);
void es_fix_shards(es_work *work);
/* Puts an empty index in the place of the target, then goes on. */
void es_empty(es_work *work, es_step ready);

/* ---- es_proxy_feed.c: the indexer's messages, and what is visible ---- */
void es_index_ask(es_work *work);
void es_index_write(es_work *work);
void es_index_list(es_work *work);
/* Adds the query for all documents, or for those that came into the index by another way. */
void es_add_documents(tw_bson_builder *b, bool stray);
/* Goes on with ready once a search of all targets reflects min_since. */
void es_need_position(es_work *work, es_step ready);
void es_feed_tick(es_proxy *proxy); /* refreshes what was written */
