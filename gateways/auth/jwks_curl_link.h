/* jwks_curl_link.h - fetches a set of keys over https: one answer, soon, or why there is none. */
#pragma once

#include "protocol/base.h"

#include "broker/why.h"

/* Appends the answer's body to out. Only https is spoken, no redirection is followed, nothing but
 * 200 counts; an attempt has TW_JWKS_MS, and there is one more where the first fails.
 * ca_file    certificates that may sign the server's; "": the system's
 * Errors     TW_E_UNAVAILABLE with why; TW_E_NO_MEMORY
 * Thread     the main one; blocks up to twice TW_JWKS_MS */
tw_err jwks_fetch(const char *url, const char *ca_file, tw_buf *out, broker_why *why);
