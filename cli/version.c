/* version.c - tidewire version: its own, and those of the libraries that it is linked with. */
#include "cli/version.h"

#include <stdio.h>

#include <curl/curl.h>
#include <cyaml/cyaml.h>
#include <libwebsockets.h>
#include <mongoc/mongoc.h>
#include <msgpack.h>
#include <nng/nng.h>
#include <openssl/crypto.h>
#include <sqlite3.h>

#include "protocol/base.h"
#include "protocol/version.h"

int cli_version(int argc, char **argv)
{
    const struct {
        const char *name, *version;
    } linked[] = {
        {"nng", nng_version()},
        {"libwebsockets", lws_get_library_version()},
        {"SQLite", sqlite3_libversion()},
        {"libmongoc", mongoc_get_version()},
        {"libbson", bson_get_version()},
        {"libcurl", curl_version_info(CURLVERSION_NOW)->version},
        {"msgpack-c", msgpack_version()},
        {"libcyaml", cyaml_version_str},
        {"OpenSSL", OpenSSL_version(OPENSSL_VERSION)},
    };
    (void)argc;
    (void)argv;
    printf("tidewire %s\n", TW_VERSION);
    for (size_t i = 0; i < TW_COUNT(linked); i++) {
        printf("  %-14s %s\n", linked[i].name, linked[i].version);
    }
    return 0;
}
