/* http_pages.c - the pages that the program carries (protocol/asset.h), and who may see them.
 *
 * The demo stands on the public listener and only with --demo; the inspector on the admin listener
 * alone. Both run under a policy that names what they may load: themselves, and the websocket. */
#include "protocol/asset.h"
#include "protocol/json.h"

#include "gateways/web/http_priv.h"

/* What a page of ours may do. worker-src blob: the client's clock for hidden tabs. */
#define POLICY                                                                                     \
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "           \
    "img-src 'self' data:; worker-src blob:; base-uri 'none'; form-action 'none'; "                \
    "frame-ancestors 'none'; connect-src 'self'"
#define POLICY_END "\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Opener-Policy: same-origin\r\n"

enum { PAGES_NAME_MAX = 256, PAGES_HEAD_MAX = 1024 };

static const struct tw_asset *find_asset(const char *path)
{
    for (size_t i = 0; i < tw_assets_count; i++) {
        if (strcmp(tw_assets[i].path, path) == 0) {
            return &tw_assets[i];
        }
    }
    return NULL;
}

int http_public_port(const edge *self)
{
    int bound = self->options->ports == NULL ? 0 : atomic_load(&self->options->ports->listen);
    return bound != 0 ? bound : self->options->listen_port;
}

/* A page on the public listener talks to its own host, which 'self' covers for websockets too; the
 * inspector's websocket has another port. */
static void answer_page(edge *self, connection *conn, const char *type, tw_str body)
{
    char head[PAGES_HEAD_MAX];
    if (conn->listener == EDGE_ADMIN) {
        int port = http_public_port(self);
        const char *address = self->options->listen_address;
        bool six =
            strchr(address, ':') != NULL; /* a policy cannot name it: the page says localhost */
        const char *s = self->options->tls != NULL ? "s" : "";
        tw_format(head, sizeof(head),
                  POLICY " ws%s://127.0.0.1:%d ws%s://localhost:%d ws%s://%s:%d" POLICY_END, s,
                  port, s, port, s, six ? "localhost" : address, port);
    } else {
        tw_format(head, sizeof(head), POLICY POLICY_END);
    }
    conn->http->more_head = head;
    http_answer(self, conn, 200, type, body);
}

/* Where no demo is served, the root says what is. */
static void welcome(edge *self, connection *conn)
{
    static const char page[] =
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Tidewire</title>"
        "<meta name=\"color-scheme\" content=\"light dark\"><h1>Tidewire serves here</h1>"
        "<p>Live, resumable streams of records:</p><ul>"
        "<li><code>/ws</code> websocket: <code>{\"type\":\"subscribe\",\"mux_id\":1,"
        "\"collections\":{\"people\":\"*\"}}</code></li>"
        "<li><code>/api/v1/COLLECTION</code> the same records over HTTP</li>"
        "<li><a href=\"/readyz\">/readyz</a> whether it is ready</li></ul>"
        "<p>The inspector stands on the admin listener, which <code>tidewire serve</code> prints "
        "at "
        "its start; <code>tidewire serve --demo</code> serves an example at "
        "<code>/demo/</code>.</p>"
        "</html>";
    answer_page(self, conn, "text/html; charset=utf-8", (tw_str){page, sizeof(page) - 1});
}

static void redirect(edge *self, connection *conn, const char *to)
{
    http_answer(self, conn, 302, "text/plain", tw_str_of(to));
}

/* The folder of pages that this listener shows; NULL: none. */
static const char *folder_of(const edge *self, const connection *conn)
{
    if (conn->listener == EDGE_ADMIN) {
        return "inspector";
    }
    return self->options->demo ? "demo" : NULL;
}

void http_page(edge *self, connection *conn, tw_str path)
{
    const char *folder = folder_of(self, conn);
    char name[PAGES_NAME_MAX], root[PAGES_NAME_MAX];
    tw_format(root, sizeof(root), "/%s/", folder == NULL ? "" : folder);
    size_t root_len = strlen(root);
    bool at_root = tw_str_equal(path, TW_STR("/"));
    if (at_root && folder == NULL) {
        welcome(self, conn);
        return;
    }
    if (at_root || (folder != NULL && tw_str_equal(path, (tw_str){root, root_len - 1}))) {
        redirect(self, conn, root);
        return;
    }
    bool below = folder != NULL && path.len >= root_len && path.len < sizeof(name) - 16 &&
                 memcmp(path.ptr, root, root_len) == 0;
    if (below) {
        tw_format(name, sizeof(name), "%.*s%s", (int)path.len - 1, path.ptr + 1,
                  path.len == root_len ? "index.html" : "");
        const struct tw_asset *asset = find_asset(name);
        if (asset != NULL) {
            answer_page(self, conn, asset->type, (tw_str){(const char *)asset->data, asset->len});
            return;
        }
        if (path.len == root_len) {
            http_answer_error(self, conn, 404, TW_E_NOT_FOUND,
                              "this program was built without its pages: they need Node and npm, "
                              "which `script/install web` brings; then script/build");
            return;
        }
    }
    http_answer_error(self, conn, 404, TW_E_NOT_FOUND, "there is no such page");
}
