/* asset.h - the web pages that the program carries inside itself.
 *
 * web/build.mjs bundles the pages into web/dist/; the build lists what stands there and writes one
 * C source, web_assets.c, into its cache. The table below is defined there, sorted by path. It may
 * be empty: a page that is not there is answered with 404, never with a fault. */
#pragma once

#include <stddef.h>

/* One embedded file. All three pointers are constant data of the program: borrow, for ever. */
struct tw_asset {
    const char *path;          /* below web/, no leading slash: "demo/index.html" */
    const char *type;          /* for Content-Type: "text/html; charset=utf-8" */
    const unsigned char *data; /* exact bytes of the file; a NUL follows that len does not count */
    size_t len;                /* bytes */
};

extern const struct tw_asset tw_assets[]; /* sorted by path, as strcmp does */
extern const size_t tw_assets_count; /* 0 when web/ is empty; tw_assets is then not to be read */
