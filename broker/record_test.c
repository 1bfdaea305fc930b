/* record_test.c - a document becomes a version of a record. */
#include "broker/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/bson_text.h"

static void test_record_with_version_completes_a_document(void **state)
{
    (void)state;
    static const struct {
        const char *doc, *result;
    } samples[] = {
        {"{'a':1}", "{'_id':'k','a':1,'_version':3}"},
        {"{'_id':'k','a':1}", "{'_id':'k','a':1,'_version':3}"},
        {"{'_version':9,'a':1}", "{'_id':'k','_version':3,'a':1}"},
        {"{}", "{'_id':'k','_version':3}"},
    };
    tw_arena arena;
    tw_buf scratch;
    tw_arena_init(&arena, 1 << 20);
    tw_buf_init(&scratch, 1 << 20);
    for (size_t i = 0; i < TW_COUNT(samples); i++) {
        broker_why why = {0};
        tw_key key;
        tw_bson out;
        tw_bson id = bson_text(&arena, "{'_id':'k'}");
        assert_int_equal(tw_key_of_value(&arena, tw_bson_get(id, TW_STR("_id")), &key), TW_OK);
        assert_int_equal(record_with_version(&catalog_undeclared, &scratch, &arena,
                                             bson_text(&arena, samples[i].doc), key, 3, &out, &why),
                         TW_OK);
        tw_bson wanted = bson_text(&arena, samples[i].result);
        assert_string_equal(bson_shown(&arena, out), bson_shown(&arena, wanted));
    }
    tw_buf_fini(&scratch);
    tw_arena_fini(&arena);
}

static void test_record_key_is_given_or_in_the_document_or_made(void **state)
{
    (void)state;
    tw_arena arena;
    tw_arena_init(&arena, 1 << 20);
    broker_why why = {0};
    tw_key own, key;
    tw_bson doc = bson_text(&arena, "{'_id':'k'}");
    assert_int_equal(record_key(&catalog_undeclared, &arena, doc, (tw_key){0}, &own, &why), TW_OK);
    assert_int_equal(own.ptr[0], TW_BSON_STRING);
    assert_int_equal(record_key(&catalog_undeclared, &arena, doc, own, &key, &why), TW_OK);
    assert_true(tw_key_equal(own, key));
    doc = bson_text(&arena, "{'_id':'other'}");
    assert_int_equal(record_key(&catalog_undeclared, &arena, doc, own, &key, &why),
                     TW_E_BAD_DOCUMENT);
    doc = bson_text(&arena, "{'_id':[1]}");
    assert_int_equal(record_key(&catalog_undeclared, &arena, doc, (tw_key){0}, &key, &why),
                     TW_E_BAD_DOCUMENT);
    doc = bson_text(&arena, "{'a':1}");
    assert_int_equal(record_key(&catalog_undeclared, &arena, doc, (tw_key){0}, &key, &why), TW_OK);
    assert_int_equal(key.len, 13);
    assert_int_equal(key.ptr[0], TW_BSON_OBJECT_ID);
    tw_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_with_version_completes_a_document),
        cmocka_unit_test(test_record_key_is_given_or_in_the_document_or_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
