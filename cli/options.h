/* options.h - the one table of scalar options.
 *
 * O(type, member, section, key, flag, default, min, max, help)   type: text, number, flag
 * A text's min and max are lengths in bytes; a number's its range. flag "" = no flag. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_OPTIONS(O)                                                                          \
    O(text, listen, "server", "listen", "listen", "127.0.0.1:8090", 3, 255,                        \
      "Address and port of websocket and HTTP; port 0 takes a free one.")                          \
    O(text, admin, "server", "admin", "admin", "127.0.0.1:8091", 0, 255,                           \
      "Address and port of the admin listener; empty: none.")                                      \
    O(text, service, "server", "service", "service", "", 0, 255,                                   \
      "nng URL of the service socket; empty: ipc:// in the data directory; none: off.")            \
    O(text, data, "server", "data", "data", "./tidewire-data", 1, 4000,                            \
      "Directory of the embedded store.")                                                          \
    O(flag, memory, "server", "memory", "memory", "false", 0, 0,                                   \
      "Keep nothing on disk: for trials and tests.")                                               \
    O(text, origins, "server", "origins", "origins", "", 0, 4000,                                  \
      "Origins that browsers may connect from, with commas; empty: same host and loopback.")       \
    O(flag, insecure, "server", "insecure", "insecure", "false", 0, 0,                             \
      "Allow listening beyond loopback without authentication.")                                   \
    O(text, log_level, "server", "log_level", "log-level", "info", 4, 5,                           \
      "error, warn, info or debug.")                                                               \
    O(text, tls_cert, "tls", "cert", "tls-cert", "", 0, 4000,                                      \
      "File with the server's certificate and its chain; empty: no TLS.")                          \
    O(text, tls_key, "tls", "key", "tls-key", "", 0, 4000,                                         \
      "File with its key, readable by its owner alone.")                                           \
    O(text, actors, "actors", "base", "actors", "", 0, 200,                                        \
      "Base address of the actors: inproc://NAME, ipc:///DIR, tcp://HOST:PORT; empty: inproc.")    \
    O(text, only, "actors", "only", "only", "", 0, 200,                                            \
      "Names of the actors that this process runs, with commas; empty: all.")                      \
    O(number, readers, "actors", "readers", "readers", "2", 1, 4,                                  \
      "Readers of the log that work side by side.")                                                \
    O(number, gateways, "actors", "gateways", "gateways", "1", 1, 8,                               \
      "Gateways that share the port of websocket and HTTP, each a thread, or a process.")          \
    O(number, drop_every, "actors", "drop_every", "", "0", 0, 1000000,                             \
      "For tests: discard every k-th publication between actors; 0: none.")                        \
    O(number, srv_id, "store", "srv_id", "srv-id", "0", 0, 9007199254740991,                       \
      "Name of this origin; 0: drawn at random at the first start.")                               \
    O(number, log_age_s, "store", "log_age_s", "log-age", "86400", 1, 31536000,                    \
      "Seconds for which replaced versions are kept, so that clients can resume.")                 \
    O(number, log_bytes, "store", "log_bytes", "log-bytes", "4294967296", 1048576, 1099511627776,  \
      "Bytes of replaced versions that are kept at most.")                                         \
    O(flag, strict, "store", "strict", "strict", "false", 0, 0,                                    \
      "Refuse collections that are not declared.")                                                 \
    O(text, database, "store", "database", "database", "main", 1, 120, "The default database.")    \
    O(text, default_collection, "store", "default_collection", "default-collection", "", 0, 120,   \
      "Collection of getByIds without one; empty: it must be named.")                              \
    O(text, preset, "store", "preset", "preset", "", 0, 20,                                        \
      "report: declares entries, threads and comments with their rules.")                          \
    O(text, mongo_uri, "mongo", "uri", "mongo", "", 0, 4000,                                       \
      "MongoDB deployment that holds the records; empty: the embedded store holds them.")          \
    O(text, mongo_uri_file, "mongo", "uri_file", "mongo-uri-file", "", 0, 4000,                    \
      "File with the URI in it, for a password that is to stand in no other place.")               \
    O(text, mongo_database, "mongo", "database", "mongo-database", "", 0, 63,                      \
      "The default database there; empty: the one the URI names, else store.database.")            \
    O(number, mongo_readers, "mongo", "readers", "mongo-readers", "4", 1, 4,                       \
      "Readers of MongoDB that work side by side.")                                                \
    O(flag, mongo_post_images, "mongo", "post_images", "mongo-post-images", "false", 0, 0,         \
      "Have MongoDB keep post-images of the collections that Tidewire creates.")                   \
    O(text, search_urls, "search", "urls", "search", "", 0, 4000,                                  \
      "URLs of the nodes of an Elasticsearch or OpenSearch cluster, with commas; empty: none.")    \
    O(text, search_user, "search", "user", "search-user", "", 0, 255,                              \
      "Name at the cluster; its password is in password_file or TIDEWIRE_SEARCH_PASSWORD.")        \
    O(text, search_password_file, "search", "password_file", "search-password-file", "", 0, 4000,  \
      "File with the password, readable by its owner alone.")                                      \
    O(text, search_api_key_file, "search", "api_key_file", "search-api-key-file", "", 0, 4000,     \
      "File with an API key as the cluster gave it (or TIDEWIRE_SEARCH_API_KEY).")                 \
    O(text, search_ca_file, "search", "ca_file", "search-ca-file", "", 0, 4000,                    \
      "Certificates that may sign the cluster's; empty: those of the system.")                     \
    O(text, search_prefix, "search", "prefix", "search-prefix", "tidewire-", 0, 60,                \
      "What the names of all indices begin with.")                                                 \
    O(number, search_timeout_ms, "search", "timeout_ms", "search-timeout", "2000", 100, 60000,     \
      "Deadline of a search that asks for no other.")                                              \
    O(number, search_connections, "search", "connections", "search-connections", "16", 1, 256,     \
      "Connections to the cluster at most.")                                                       \
    O(number, search_shards, "search", "shards", "", "1", 1, 1024,                                 \
      "Shards of an index that declares no other.")                                                \
    O(number, search_replicas, "search", "replicas", "", "0", 0, 64,                               \
      "Copies of an index that declares no other.")                                                \
    O(number, limit_connections, "limits", "connections", "", "0", 0, 16384,                       \
      "Connections of all at once; 0: what descriptors allow. The others wait unaccepted.")        \
    O(number, limit_address, "limits", "connections_per_address", "", "100", 0, 16384,             \
      "Connections of one address (of an IPv6 /64); 0: no limit. Beyond: HTTP 503.")               \
    O(number, limit_user, "limits", "connections_per_user", "", "20", 0, 16384,                    \
      "Websockets of one subject of tokens; 0: no limit. Beyond: close 4429.")                     \
    O(number, limit_accepts, "limits", "accepts_s", "", "2000", 0, 1000000,                        \
      "Connections accepted in a second; 0: no limit. The others wait unaccepted.")                \
    O(number, limit_messages, "limits", "messages_s", "", "2000", 0, 1000000,                      \
      "Messages and requests of one connection in a second; 0: no limit. The rest waits unread.")  \
    O(number, limit_subscribes, "limits", "subscribes_s", "", "1000", 0, 1000000,                  \
      "Streams that one connection asks for in a second; 0: no limit. Beyond: error rate.")        \
    O(number, limit_searches, "limits", "searches_s", "", "50", 0, 1000000,                        \
      "Searches of one connection in a second; 0: no limit. Beyond: error rate, HTTP 429.")        \
    O(number, limit_searching, "limits", "searches", "", "8", 0, 4096,                             \
      "Searches of one connection at once; 0: no limit. Beyond: error rate, HTTP 429.")            \
    O(text, limit_exempt, "limits", "exempt", "", "127.0.0.0/8,::1", 0, 4000,                      \
      "Networks whose addresses have no limit of connections, with commas.")                       \
    O(text, limit_proxies, "limits", "proxies", "", "", 0, 4000,                                   \
      "Networks of proxies whose X-Forwarded-For tells who asks, with commas; empty: none.")       \
    O(text, auth_issuer, "auth", "issuer", "", "", 0, 255,                                         \
      "Who must have made a token (iss); empty: not looked at.")                                   \
    O(text, auth_audience, "auth", "audience", "", "", 0, 255,                                     \
      "Whom a token must be for (aud); empty: not looked at.")                                     \
    O(text, auth_roles, "auth", "roles", "", "roles", 1, 255,                                      \
      "The claim with the roles: text or a list; dots go into objects.")                           \
    O(text, auth_jwks, "auth", "jwks", "", "", 0, 1000,                                            \
      "Where the keys of an identity provider are: https://... or a file; empty: nowhere.")        \
    O(text, auth_jwks_ca, "auth", "jwks_ca", "", "", 0, 4000,                                      \
      "Certificates that may sign that server's; empty: those of the system.")                     \
    O(text, auth_services, "auth", "services", "", "trusted", 1, 20,                               \
      "trusted: services may all; token: each of their requests needs a token.")                   \
    O(number, auth_leeway_s, "auth", "leeway_s", "", "30", 0, 300,                                 \
      "Seconds that clocks may differ.")                                                           \
    O(number, auth_hello_ms, "auth", "hello_ms", "", "10000", 100, 60000,                          \
      "Time for a websocket to say hello with its token.")                                         \
    O(flag, demo, "demo", "on", "demo", "false", 0, 0,                                             \
      "Serve example data: the report preset and a collection of movies.")                         \
    O(text, demo_data, "demo", "data", "demo-data", "", 0, 4000,                                   \
      "JSON array of movies for the demo; empty: a few built in.")

#define CONFIG_TYPE_text   const char *
#define CONFIG_TYPE_number int64_t
#define CONFIG_TYPE_flag   bool

typedef struct config_options {
#define O(type, member, section, key, flag, fallback, min, max, help) CONFIG_TYPE_##type member;
    CONFIG_OPTIONS(O)
#undef O
} config_options;
