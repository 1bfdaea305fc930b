/* network_test.c - what is read as a network, and what lies in it. */
#include "gateways/web/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

static void test_network_holds_what_lies_in_it(void **state)
{
    static const struct {
        const char *network, *address;
        bool has;
    } cases[] = {
        {"127.0.0.0/8", "127.9.9.9", true},
        {"127.0.0.0/8", "128.0.0.1", false},
        {"192.0.2.4", "192.0.2.4", true},
        {"192.0.2.4", "192.0.2.5", false},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.128/25", "192.0.2.129", true},
        {"::1", "::1", true},
        {"::1", "127.0.0.1", false},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"127.0.0.1", "::ffff:127.0.0.1", true},
        {"0.0.0.0/0", "9.9.9.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"::/0", "9.9.9.9", true},
    };
    (void)state;
    for (size_t i = 0; i < TW_COUNT(cases); i++) {
        network in, one;
        assert_true(network_read(cases[i].network, &in));
        assert_true(network_read(cases[i].address, &one));
        assert_int_equal(network_has(&in, &one.address), cases[i].has);
    }
}

static void test_network_refuses_other_texts(void **state)
{
    static const char *const wrong[] = {"",
                                        "localhost",
                                        "127.0.0.1/33",
                                        "::1/129",
                                        "127.0.0.1/",
                                        "1.2.3",
                                        "1.2.3.4/-1",
                                        "::1/8/8",
                                        " 127.0.0.1",
                                        "1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111"};
    network out;
    (void)state;
    for (size_t i = 0; i < TW_COUNT(wrong); i++) {
        assert_false(network_read(wrong[i], &out));
    }
}

static void test_network_site_of_ipv6_is_its_first_half(void **state)
{
    network a, b, four, other;
    (void)state;
    assert_true(network_read("2001:db8::1", &a) && network_read("2001:db8::ffff:1", &b));
    assert_true(network_read("192.0.2.4", &four) && network_read("192.0.2.5", &other));
    network_address first = network_site(&a.address), second = network_site(&b.address);
    assert_memory_equal(first.bytes, second.bytes, 16);
    first = network_site(&four.address), second = network_site(&other.address);
    assert_memory_not_equal(first.bytes, second.bytes, 16);
}

static void test_network_of_socket_takes_the_internets_names_alone(void **state)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000204)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr other = {.sa_family = AF_UNIX};
    network_address told;
    network expected;
    (void)state;
    assert_true(network_of_socket((const struct sockaddr *)&four, &told));
    assert_true(network_read("192.0.2.4", &expected));
    assert_memory_equal(told.bytes, expected.address.bytes, 16);
    assert_true(network_of_socket((const struct sockaddr *)&six, &told));
    assert_true(network_read("::1", &expected));
    assert_memory_equal(told.bytes, expected.address.bytes, 16);
    assert_false(network_of_socket(&other, &told));
}

static const char *forwarded(const char *list)
{
    static char text[NETWORK_TEXT_MAX];
    network proxies[2];
    network_address found;
    assert_true(network_read("10.0.0.0/8", &proxies[0]) && network_read("fd00::/8", &proxies[1]));
    text[0] = '\0';
    if (network_forwarded(tw_str_of(list), proxies, TW_COUNT(proxies), &found)) {
        network_text(&found, text);
    }
    return text;
}

static void test_network_forwarded_is_the_last_that_is_no_proxy(void **state)
{
    (void)state;
    assert_string_equal(forwarded("192.0.2.7"), "192.0.2.7");
    assert_string_equal(forwarded("198.51.100.1, 192.0.2.7"), "192.0.2.7"); /* forged before */
    assert_string_equal(forwarded("192.0.2.7, 10.1.2.3,\t10.0.0.1"), "192.0.2.7");
    assert_string_equal(forwarded("[2001:db8::1]:443, fd00::5"), "2001:db8::1");
    assert_string_equal(forwarded("2001:DB8:0::1"), "2001:db8::1");
    assert_string_equal(forwarded("192.0.2.7:8080 "), "192.0.2.7");
    assert_string_equal(forwarded("10.1.2.3, 10.0.0.1"), "10.1.2.3"); /* asks by itself */
    assert_string_equal(forwarded("nobody, 10.0.0.1"), "10.0.0.1");
}

static void test_network_forwarded_without_an_address_tells_none(void **state)
{
    static const char *const none[] = {"", ",", "192.0.2.7,", "unknown", "192.0.2.0/24", "[", ":1"};
    (void)state;
    for (size_t i = 0; i < TW_COUNT(none); i++) {
        assert_string_equal(forwarded(none[i]), "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_holds_what_lies_in_it),
        cmocka_unit_test(test_network_refuses_other_texts),
        cmocka_unit_test(test_network_site_of_ipv6_is_its_first_half),
        cmocka_unit_test(test_network_of_socket_takes_the_internets_names_alone),
        cmocka_unit_test(test_network_forwarded_is_the_last_that_is_no_proxy),
        cmocka_unit_test(test_network_forwarded_without_an_address_tells_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
