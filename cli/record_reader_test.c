/* record_reader_test.c - records out of files of each format, whole and damaged. */
#include "cli/record_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

enum { SHOWN_MAX = 4096 };

static char shown[SHOWN_MAX];

static void show(const char *format, int len, const char *text, unsigned long long line)
{
    char piece[SHOWN_MAX];
    tw_format(piece, sizeof piece, format, line, len, text);
    strncat(shown, piece, sizeof shown - strlen(shown) - 1);
}

/* All that the reader tells of a file: "line:record|" and "line!cause|". */
static const char *read_bytes(const char *bytes, size_t len, record_format format)
{
    FILE *in = fmemopen((void *)(uintptr_t)bytes, len, "r");
    record_reader reader;
    assert_non_null(in);
    shown[0] = '\0';
    tw_err err = record_reader_init(&reader, in, format);
    if (err != TW_OK) {
        show("%llu!%.*s|", 10, "bad header", 1);
    }
    while (err != TW_E_END && strlen(shown) < SHOWN_MAX / 2) {
        tw_str json;
        const char *why;
        err = record_reader_next(&reader, &json, &why);
        if (err == TW_OK) {
            show("%llu:%.*s|", (int)json.len, json.ptr, reader.line);
        } else if (err != TW_E_END) {
            show("%llu!%.*s|", (int)strlen(why), why, reader.line);
        }
    }
    record_reader_fini(&reader);
    fclose(in);
    return shown;
}

#define READ(text) read_bytes(text, sizeof(text) - 1, RECORDS_AUTO)

static void test_reader_json_of_each_shape_gives_objects(void **state)
{
    (void)state;
    assert_string_equal(READ("{\"a\":1}\n{\"a\":2}\n"), "1:{\"a\":1}|2:{\"a\":2}|");
    assert_string_equal(READ("{\"a\":1}\r\n\r\n{\"a\":2}"), "1:{\"a\":1}|3:{\"a\":2}|");
    assert_string_equal(READ("[{\"a\":1},\n {\"a\":2}]\n"), "1:{\"a\":1}|2:{\"a\":2}|");
    assert_string_equal(READ("{\n \"a\": [1]\n}\n{\"b\":2}"), "1:{\n \"a\": [1]\n}|4:{\"b\":2}|");
    assert_string_equal(READ("\xef\xbb\xbf{\"a\":1}"), "1:{\"a\":1}|");
    assert_string_equal(READ("[]"), "");
    assert_string_equal(READ(" \n "), "");
}

static void test_reader_braces_inside_strings_do_not_count(void **state)
{
    (void)state;
    assert_string_equal(READ("{\"a\":\"}\\\"{\"}{\"b\":\"[\\\\\"}"),
                        "1:{\"a\":\"}\\\"{\"}|1:{\"b\":\"[\\\\\"}|");
}

static void test_reader_json_cut_is_told_with_its_line(void **state)
{
    (void)state;
    assert_string_equal(READ("{\"a\":1}\n{\"a\":[1"),
                        "1:{\"a\":1}|2!the file ends inside this record|");
    assert_string_equal(READ("{\"a\":\"\\"), "1!the file ends inside this record|");
    assert_string_equal(READ("[{\"a\":1},"), "1:{\"a\":1}|1!the file ends inside the array|");
}

/* One broken line must not cost those behind it. */
static void test_reader_json_broken_line_costs_no_other(void **state)
{
    (void)state;
    assert_string_equal(READ("{\"a\":1}\n{bad\n{\"a\":2}\n"),
                        "1:{\"a\":1}|2!the next record begins inside this one|3:{\"a\":2}|");
    assert_string_equal(READ("{\"a\":\"cut\n{\"a\":2}\n"),
                        "1!the line ends inside quotes|2:{\"a\":2}|");
    assert_string_equal(READ("{\"a\":[1,\n{\"b\":2}\n{\"a\":3}"),
                        "1!the next record begins inside this one|3:{\"a\":3}|");
    assert_string_equal(READ("{\"a\":1,\n{\"a\":2}"),
                        "1!the next record begins inside this one|2:{\"a\":2}|");
    assert_string_equal(READ("[{\"a\":1\n,\n{\"a\":2}\n]"),
                        "1!the next record begins inside this one|3:{\"a\":2}|");
}

static void test_reader_json_without_indent_is_one_object(void **state)
{
    (void)state;
    assert_string_equal(READ("{\n\"a\":\n{\n\"b\":[\n{\"c\":1},\n{}\n]\n}\n}\n{\"d\":1}"),
                        "1:{\n\"a\":\n{\n\"b\":[\n{\"c\":1},\n{}\n]\n}\n}|10:{\"d\":1}|");
}

static void test_reader_no_object_is_skipped_with_its_line(void **state)
{
    (void)state;
    assert_string_equal(READ("{\"a\":1}\n7\n{\"a\":2}\n"),
                        "1:{\"a\":1}|2!a record must be a JSON object|3:{\"a\":2}|");
}

static void test_reader_json_too_big_is_skipped_and_told(void **state)
{
    (void)state;
    static char text[TW_MESSAGE_MAX + 100];
    memset(text, 'x', sizeof text);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + sizeof text - 10, "\"}{\"b\":1} ", 10);
    assert_string_equal(read_bytes(text, sizeof text, RECORDS_AUTO),
                        "1!the record is larger than a message may be (64 KiB)|1:{\"b\":1}|");
}

static void test_reader_csv_cells_become_their_types(void **state)
{
    (void)state;
    assert_string_equal(READ("a,b,c,d\n1,-2.5,true,null\n"),
                        "2:{\"a\":1,\"b\":-2.5,\"c\":true,\"d\":null}|");
    assert_string_equal(READ("a,b,c,d\n007,1e5,.5,-\n"),
                        "2:{\"a\":\"007\",\"b\":\"1e5\",\"c\":\".5\",\"d\":\"-\"}|");
    assert_string_equal(READ("a\n12345678901234567890\n"), "2:{\"a\":\"12345678901234567890\"}|");
    assert_string_equal(READ("a,b,c\n,x,\n"), "2:{\"b\":\"x\"}|"); /* empty cells are left out */
}

static void test_reader_csv_quotes_hold_anything(void **state)
{
    (void)state;
    assert_string_equal(READ("a,\"b,c\"\n\"x \"\"y\"\"\",\"l1\nl2\"\nz,\n"),
                        "2:{\"a\":\"x \\\"y\\\"\",\"b,c\":\"l1\\nl2\"}|4:{\"a\":\"z\"}|");
    assert_string_equal(READ("a,b\r\n\"x\r\",y\r\n"), "2:{\"a\":\"x\\r\",\"b\":\"y\"}|");
    assert_string_equal(READ("a\n\"x\r\"\n"), "2:{\"a\":\"x\\r\"}|");
    assert_string_equal(READ("\xef\xbb\xbfname,n\nAda,1\n"), "2:{\"name\":\"Ada\",\"n\":1}|");
}

static void test_reader_csv_damage_is_told_with_its_line(void **state)
{
    (void)state;
    assert_string_equal(READ("a,b\n1,2,3\n4,5\n"),
                        "2!the row has more cells than the header|3:{\"a\":4,\"b\":5}|");
    assert_string_equal(READ("a,b\n1,\"cut"), "2!the file ends inside a quoted cell|");
    assert_string_equal(READ("a\n\"\xff\"\n"), "2:{\"a\":\"\xef\xbf\xbd\"}|");
    assert_string_equal(READ("\"a"), "1!bad header|");
}

static void test_reader_csv_too_big_is_skipped_and_told(void **state)
{
    (void)state;
    static char text[TW_MESSAGE_MAX + 100];
    memset(text, 'x', sizeof text);
    memcpy(text, "a,b\n", 4);
    memcpy(text + sizeof text - 7, ",1\n2,3\n", 7);
    assert_string_equal(read_bytes(text, sizeof text, RECORDS_AUTO),
                        "2!the row is larger than a message may be (64 KiB)|3:{\"a\":2,\"b\":3}|");
}

static void test_reader_format_can_be_given(void **state)
{
    (void)state;
    static const char text[] = "{a\n1\n";
    assert_string_equal(read_bytes(text, sizeof text - 1, RECORDS_CSV), "2:{\"{a\":1}|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_json_of_each_shape_gives_objects),
        cmocka_unit_test(test_reader_braces_inside_strings_do_not_count),
        cmocka_unit_test(test_reader_json_cut_is_told_with_its_line),
        cmocka_unit_test(test_reader_json_broken_line_costs_no_other),
        cmocka_unit_test(test_reader_json_without_indent_is_one_object),
        cmocka_unit_test(test_reader_no_object_is_skipped_with_its_line),
        cmocka_unit_test(test_reader_json_too_big_is_skipped_and_told),
        cmocka_unit_test(test_reader_csv_cells_become_their_types),
        cmocka_unit_test(test_reader_csv_quotes_hold_anything),
        cmocka_unit_test(test_reader_csv_damage_is_told_with_its_line),
        cmocka_unit_test(test_reader_csv_too_big_is_skipped_and_told),
        cmocka_unit_test(test_reader_format_can_be_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
