/* request_unsupported.c - actions that this server knows by name and does not offer: it says why.
 * */
#include "gateways/request/request_priv.h"

void request_dispatch(request *self)
{
    request_fail(self, TW_E_UNSUPPORTED,
                 "dispatch is not offered: messages that are not stored "
                 "cannot be resumed.",
                 "Write a record: its streams are told of it.", (tw_bson){0});
}

void request_search(request *self)
{
    request_fail(self, TW_E_UNSUPPORTED, "No search engine is connected to this server.",
                 "Use find, find_one and count.", (tw_bson){0});
}
