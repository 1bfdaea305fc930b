/* request_get_new_id.c - get_new_id: an id that nothing has, and nothing will get by chance; never
 * one of those that are excluded. */
#include "gateways/request/request_priv.h"

static bool is_excluded(const request *self, const uint8_t oid[12])
{
    for (size_t i = 0; i < self->ids_count; i++) {
        tw_key key = self->ids[i].key;
        if (key.len == 13 && key.ptr[0] == TW_BSON_OBJECT_ID && memcmp(key.ptr + 1, oid, 12) == 0) {
            return true;
        }
    }
    return false;
}

void request_get_new_id(request *self)
{
    uint8_t oid[12];
    tw_bson_builder b;
    request_why why = {0};
    tw_err err = TW_OK;
    self->coll = tw_bson_value_str(self->given.at[FIELD_collection]);
    self->db = tw_bson_value_str(self->given.at[FIELD_database]);
    if ((self->given.set & FIELD_BIT(excluded)) != 0) {
        err = request_ids_read(&self->arena, self->given.at[FIELD_excluded], &self->ids,
                               &self->ids_count, &why);
    }
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    do {
        tw_oid_new(oid);
    } while (is_excluded(self, oid)); /* they count up: at most one turn for each excluded one */
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_oid(&b, TW_STR("id"), oid);
    (void)request_reply_end(self, &b, true);
}
