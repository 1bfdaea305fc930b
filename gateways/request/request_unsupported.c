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

void request_aggregate(request *self)
{
    request_fail(self, TW_E_UNSUPPORTED,
                 "aggregate needs a MongoDB server; this is the embedded "
                 "store.",
                 "Use find and count, or start the server with a MongoDB url.", (tw_bson){0});
}
