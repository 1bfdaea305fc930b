/* serve_priv.h - what the files of this room share: the program that is put together before it
 * starts, and which file fills which part of it.
 *
 *   serve.c           the verbs serve and actor: arguments, and the order of all below
 *   serve_prepare.c   level of the log, descriptors, the data directory
 *   serve_actors.c    the table of actors: when each is wanted, and by what name
 *   serve_store.c, serve_mongo.c, serve_search.c, serve_gateway.c, serve_service.c
 *                     the options of those actors, from the configuration
 *   serve_security.c  TLS, auth and exempt networks; who may listen beyond this machine
 *   serve_banner.c    what is printed once all stands
 *   serve_signals.c   waiting for the end
 *   serve_reload.c    keys and rules that change meanwhile
 *
 * Thread: the main one, for all of it. A function that returns int returns 0, or 1 once it has
 * told what is wrong. One that returns options for an actor returns NULL then; the options are
 * a part of the program, borrowed by the actor until the system ends. */
#pragma once

#include <signal.h>

#include "protocol/limits.h"

#include "actors/log_reader.h"
#include "actors/mongo/change_tailer.h"
#include "actors/mongo/mongo_link.h"
#include "actors/mongo/mongo_reader.h"
#include "actors/mongo/mongo_writer.h"
#include "actors/processor.h"
#include "actors/search/embedded_search.h"
#include "actors/search/es_proxy.h"
#include "actors/search/indexer.h"
#include "actors/store.h"
#include "actors/subscription_manager.h"
#include "cli/config_args.h"
#include "cli/verb.h"
#include "gateways/auth/auth.h"
#include "gateways/service/service.h"
#include "gateways/web/gateway.h"

enum {
    SERVE_READERS_MAX = 4,  /* of the log, and of MongoDB: what the table of options allows */
    SERVE_ORIGINS_MAX = 64, /* that the configuration may list */
    SERVE_PATH_MAX = 4200,  /* bytes of a path, or of a list in the configuration */
    SERVE_SECRET_MAX = 4096 /* bytes of a password or an API key */
};

struct program {
    const char *verb;        /* serve or actor: who complains */
    const char *actor;       /* of the verb actor; NULL: all that --only leaves */
    const config_args *args; /* borrow; read again by a reload */
    bool is_check;           /* it will not start: it makes and fetches nothing */
    config config;           /* own */
    tw_system *system;       /* own */
    sigset_t signals;        /* that end it, or make it read again */

    log_store *log; /* own; opened by the store, read by its readers */
    store_options store;
    log_reader_options readers[SERVE_READERS_MAX];
    subscription_manager_options manager;
    processor_options processor;

    mongo_link *mongo;               /* own; NULL: the embedded store */
    char node[SERVE_PATH_MAX + 256]; /* host and data directory */
    change_tailer_options tailer;
    mongo_writer_options mongo_writer;
    mongo_reader_options mongo_readers[SERVE_READERS_MAX];

    char search_urls[SERVE_PATH_MAX];
    const char *search_hosts[TW_SEARCH_HOSTS_MAX];
    char search_password[SERVE_SECRET_MAX], search_key[SERVE_SECRET_MAX];
    es_proxy_options search;
    indexer_options indexer;
    embedded_search_options embedded;

    gateway_options gateway;                   /* with the admin listener; no catalog: none here */
    gateway_options gateways[TW_GATEWAYS_MAX]; /* those beside it, from 1 on */
    char listen[SERVE_PATH_MAX], admin[SERVE_PATH_MAX], origins[SERVE_PATH_MAX];
    const char *origins_listed[SERVE_ORIGINS_MAX];
    const char *actors[TW_ACTORS_MAX + 1];   /* whose figures the gateway tells */
    tw_buf configuration;                    /* own; JSON for the admin listener */
    gateway_ports ports;                     /* what was really bound */
    network exempt[TW_EXEMPT_NETWORKS_MAX];  /* of limits of connections */
    network proxies[TW_EXEMPT_NETWORKS_MAX]; /* whose word about who asks is taken */
    gateway_tls tls;
    auth *auth; /* own; NULL: there is no auth */

    char service_url[SERVE_PATH_MAX];
    service_options service; /* no url: none here */
};

/* ---- serve_prepare.c ---- */
int serve_prepare(struct program *program);
/* Writes the path as it is from the root; returns out. */
const char *serve_absolute(const char *path, char *out, size_t size);

/* ---- serve_actors.c ---- */
/* Adds the wanted actors to the system, in the order of their start. */
int serve_add_actors(struct program *program);
/* True when this process runs what goes by that name in --only and `tidewire actor`. */
bool serve_is_wanted(const struct program *program, const char *name);
/* True when the program has that actor ("log_reader.1"), in this process or in another. */
bool serve_has_actor(const config_options *option, const char *name);

/* ---- options of the actors; number: of the instance, from 0 ---- */
const void *serve_fill_store(struct program *program, size_t number);
const void *serve_fill_log_reader(struct program *program, size_t number);
const void *serve_fill_change_tailer(struct program *program, size_t number);
const void *serve_fill_mongo_writer(struct program *program, size_t number);
const void *serve_fill_mongo_reader(struct program *program, size_t number);
const void *serve_fill_es_proxy(struct program *program, size_t number);
const void *serve_fill_indexer(struct program *program, size_t number);
const void *serve_fill_embedded_search(struct program *program, size_t number);
/* The first one that is asked for fills what all share. Gateway 0 alone has the admin listener. */
const void *serve_fill_gateway(struct program *program, size_t number);
const void *serve_fill_service(struct program *program, size_t number);

/* ---- serve_mongo.c ---- */
/* Makes the link to MongoDB, where the configuration names one. */
int serve_prepare_mongo(struct program *program);
int64_t serve_mongo_readers(const config_options *option); /* 0: the log holds the records */

/* ---- serve_search.c ---- */
void serve_prepare_search(struct program *program);
/* The actor that answers searches: a cluster's, or the one that needs none. */
const char *serve_search_actor(const config_options *option);

/* ---- serve_security.c ---- */
/* Makes auth, where it is configured and not made yet. */
int serve_fill_auth(struct program *program);
/* TLS and auth of the gateway, whose address is known; refuses to let in or to be read by all. */
int serve_fill_security(struct program *program);
/* The networks whose addresses have no limit of connections, and those of proxies. */
int serve_fill_networks(struct program *program);
bool serve_is_loopback(const char *host);

/* ---- serve_banner.c ---- */
void serve_print_banner(const struct program *program);

/* ---- serve_signals.c ---- */
/* Blocks what serve_wait waits for; all threads that start later have it blocked, too. */
void serve_block_signals(struct program *program);
/* Returns when the process is to finish, and meanwhile keeps keys, rules and certificate true. */
void serve_wait(struct program *program);

/* ---- serve_reload.c ---- */
/* Fetches keys where it is time; there is auth. */
void serve_keep_keys(struct program *program);
/* Reads the section auth again, with its files. What is wrong is told; the rules before hold. */
void serve_reload(struct program *program);
