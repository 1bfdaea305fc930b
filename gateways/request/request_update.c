/* request_update.c - update: changes of records by id or by query. */
#include "gateways/request/request_priv.h"

void request_update(request *self)
{
    request_why why = {0};
    tw_err err = request_update_of(self, &self->given, &self->update, &why);
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    request_change(self);
}
