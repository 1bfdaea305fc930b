/* jwks_curl_link.c - see jwks_curl_link.h. */
#include "gateways/auth/jwks_curl_link.h"

#include <curl/curl.h>

#include "protocol/limits.h"

enum { JWKS_TRIES = 2 };

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    tw_buf *out = context;
    tw_buf_add(out, bytes, size * count);
    return out->err == TW_OK ? size * count : 0; /* curl ends the transfer */
}

static CURLcode fetch_once(CURL *easy, const char *url, const char *ca_file, tw_buf *out,
                           char *words)
{
    CURLcode code = CURLE_OK;
    const CURLcode set[] = {
        curl_easy_setopt(easy, CURLOPT_URL, url),
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https"),
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L),
        curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L),
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L),
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)TW_JWKS_MS),
        curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2),
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, words),
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body),
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, out),
        ca_file[0] == '\0' ? CURLE_OK : curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file),
    };
    for (size_t i = 0; i < TW_COUNT(set); i++) {
        code = code == CURLE_OK ? set[i] : code;
    }
    code = code == CURLE_OK ? curl_easy_perform(easy) : code;
    long status = 0;
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK && status != 200) {
        tw_format(words, CURL_ERROR_SIZE, "it answered %ld", status);
        code = CURLE_HTTP_RETURNED_ERROR;
    }
    return code;
}

tw_err jwks_fetch(const char *url, const char *ca_file, tw_buf *out, broker_why *why)
{
    char words[CURL_ERROR_SIZE] = "";
    CURL *easy = curl_easy_init();
    if (easy == NULL) {
        return TW_E_NO_MEMORY;
    }
    CURLcode code = CURLE_COULDNT_CONNECT;
    for (int i = 0; i < JWKS_TRIES && code != CURLE_OK; i++) {
        tw_buf_clear(out);
        words[0] = '\0';
        code = fetch_once(easy, url, ca_file, out, words);
    }
    curl_easy_cleanup(easy);
    if (code == CURLE_OK) {
        return TW_OK;
    }
    if (out->err == TW_E_TOO_BIG) {
        return broker_refuse(why, TW_E_UNAVAILABLE, "%s: it has over %d bytes", url, TW_JWKS_MAX);
    }
    return broker_refuse(why, TW_E_UNAVAILABLE, "%s: %s", url,
                         words[0] != '\0' ? words : curl_easy_strerror(code));
}
