/* request_coerce.c - coerce_query and coerce_list: what other actions make of a query or a list,
 * for those who want to see it. */
#include "gateways/request/request_priv.h"

/* {"query": a filter, "multi": whether several records may be meant} */
void request_coerce_query_action(request *self)
{
    request_why why = {0};
    tw_bson_builder b;
    tw_bson_value asked = self->given.at[FIELD_query];
    tw_err err = request_coerce_query(self, asked, &self->query, &why);
    if (err != TW_OK) {
        request_fail_why(self, err, &why);
        return;
    }
    bool list = asked.type == TW_BSON_ARRAY;
    bool multi =
        list ? tw_bson_count(tw_bson_value_doc(asked)) > 1 : asked.type == TW_BSON_DOCUMENT;
    request_reply_begin(self, &b, self->action->name);
    tw_bson_add_doc(&b, TW_STR("query"), self->query);
    tw_bson_add_bool(&b, TW_STR("multi"), multi);
    (void)request_reply_end(self, &b, true);
}

/* {"list": the value where it is a list, a list of the value otherwise} */
void request_coerce_list(request *self)
{
    tw_bson_value value = self->given.at[FIELD_value];
    tw_bson_builder b;
    request_reply_begin(self, &b, self->action->name);
    if (value.type == TW_BSON_ARRAY) {
        tw_bson_add_value(&b, TW_STR("list"), value);
    } else {
        tw_bson_open_array(&b, TW_STR("list"));
        tw_bson_add_value(&b, TW_STR(""), value);
        tw_bson_close(&b);
    }
    (void)request_reply_end(self, &b, true);
}
