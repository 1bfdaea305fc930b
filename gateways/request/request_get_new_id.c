/* request_get_new_id.c - get_new_id: an id that nothing has, and nothing will get by chance. */
#include "gateways/request/request_priv.h"

void request_get_new_id(request *self)
{
    uint8_t oid[12];
    tw_bson_builder b;
    self->coll = tw_bson_value_str(self->given.at[FIELD_collection]);
    self->db = tw_bson_value_str(self->given.at[FIELD_database]);
    tw_oid_new(oid);
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_oid(&b, TW_STR("id"), oid);
    (void)request_reply_end(self, &b, true);
}
