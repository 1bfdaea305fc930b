/* caller.c - a question from outside of the actors: main, the commands, tests. It blocks. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "actors/runtime/run.h"

enum { CALLER_MAGIC = 0x7ca11e52 };

struct tw_caller {
    uint32_t magic;
    int wake_fd; /* own */
    transport_socket socket;
    uint64_t request; /* number of the last question */
    tw_arena arena;
    tw_buf encoded;
    transport_packet *answer; /* own; what in points into */
    tw_body body;
    tw_envelope in;
};

/* Waits for an answer, or for a change of the connection; false when the time is over. */
static bool caller_wait(tw_caller *caller, uint64_t until_ms)
{
    uint64_t now_ms = run_clock_ms();
    if (now_ms >= until_ms) {
        return false;
    }
    uint64_t left = until_ms - now_ms;
    struct pollfd fds[] = {
        {.fd = caller->socket.fd, .events = POLLIN},
        {.fd = caller->wake_fd, .events = POLLIN},
    };
    int ready = poll(fds, TW_COUNT(fds), left > INT32_MAX ? INT32_MAX : (int)left);
    TW_ASSERT(ready >= 0 || errno == EINTR);
    eventfd_t value;
    int failed = eventfd_read(caller->wake_fd, &value);
    TW_ASSERT(failed == 0 || errno == EAGAIN);
    return true;
}

static tw_err caller_connect(tw_caller *caller, const char *base, const char *to,
                             uint32_t timeout_ms)
{
    char address[TRANSPORT_ADDRESS_MAX];
    tw_err err =
        run_name_is_right(to) ? transport_address(base, to, false, address) : TW_E_BAD_CONFIG;
    if (err == TW_OK) {
        err = transport_open(&caller->socket, TRANSPORT_LINK, base, caller->wake_fd);
    }
    if (err == TW_OK) {
        err = transport_dial(&caller->socket, address);
    }
    uint64_t until_ms = run_clock_ms() + timeout_ms;
    while (err == TW_OK && atomic_load(&caller->socket.pipes) <= 0) {
        err = caller_wait(caller, until_ms) ? TW_OK : TW_E_UNAVAILABLE;
    }
    return err;
}

tw_err tw_caller_open(tw_caller **out, const char *base, const char *to, uint32_t timeout_ms)
{
    TW_ASSERT(out != NULL);
    TW_ASSERT(base != NULL);
    tw_caller *caller = tw_alloc_zero(1, sizeof *caller);
    if (caller == NULL) {
        return TW_E_NO_MEMORY;
    }
    caller->magic = CALLER_MAGIC;
    tw_arena_init(&caller->arena, (size_t)8 * TW_ACTOR_MESSAGE_MAX);
    tw_buf_init(&caller->encoded, TW_ACTOR_MESSAGE_MAX);
    caller->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    sigset_t all; /* nng's threads, should they begin here, inherit a mask without signals */
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    tw_err err =
        caller->wake_fd < 0 ? TW_E_NO_MEMORY : caller_connect(caller, base, to, timeout_ms);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != TW_OK) {
        tw_caller_close(&caller);
        return err;
    }
    *out = caller;
    return TW_OK;
}

/* Forgets the answer before. */
static void caller_clear(tw_caller *caller)
{
    TW_ASSERT(caller->magic == CALLER_MAGIC);
    transport_packet_free(&caller->answer);
    tw_arena_reset(&caller->arena);
    tw_buf_clear(&caller->encoded);
}

static tw_err caller_send(tw_caller *caller, tw_msg_id id, const void *body, uint64_t until_ms)
{
    TW_ASSERT(body != NULL);
    uint32_t number = ((uint32_t)caller->request & 0x7fffffffU) | 0x80000000U;
    char header[TRANSPORT_REQUEST_BYTES];
    for (int i = 0; i < TRANSPORT_REQUEST_BYTES; i++) {
        header[i] = (char)(unsigned char)(number >> (24 - 8 * i));
    }
    tw_message_encode(&caller->encoded, id, caller->request, body);
    tw_err err = caller->encoded.err;
    transport_packet *packet = NULL;
    if (err == TW_OK) {
        err = transport_packet_new(&packet, (tw_str){header, sizeof header}, TW_STR(""),
                                   tw_buf_str(&caller->encoded));
    }
    while (err == TW_OK && atomic_load(&caller->socket.pipes) <= 0) {
        err = caller_wait(caller, until_ms) ? TW_OK : TW_E_UNAVAILABLE;
    }
    if (err == TW_OK) {
        err = transport_send(&caller->socket, &packet);
    }
    transport_packet_free(&packet);
    return err;
}

/* Takes one message; true when it is the answer, or cannot be read: then *err says so. */
static bool caller_take(tw_caller *caller, tw_err *err)
{
    TW_ASSERT(caller->answer == NULL);
    if (transport_receive(&caller->socket, &caller->answer) != TW_OK) {
        return false;
    }
    uint64_t request;
    tw_msg_id id;
    tw_str bytes = transport_packet_body(caller->answer);
    *err = tw_message_decode(&caller->arena, bytes, &id, &request, &caller->body);
    if (*err != TW_OK) {
        return true;
    }
    if (request != caller->request && !(id == TW_MSG_error && request == 0)) {
        caller_clear(caller); /* of an earlier question */
        return false;
    }
    *err = id == TW_MSG_error ? ask_error_code(caller->body.error.code) : TW_OK;
    caller->in =
        (tw_envelope){.id = id, .body = &caller->body, .arena = &caller->arena, .bytes = bytes};
    return true;
}

tw_err tw_caller_ask(tw_caller *caller, tw_msg_id id, const void *body, uint32_t timeout_ms,
                     const tw_envelope **in)
{
    TW_ASSERT(caller != NULL && caller->magic == CALLER_MAGIC);
    TW_ASSERT(in != NULL);
    *in = NULL;
    caller_clear(caller);
    caller->request++;
    uint64_t until_ms = run_clock_ms() + timeout_ms;
    unsigned losses = atomic_load(&caller->socket.losses);
    tw_err err = caller_send(caller, id, body, until_ms);
    if (err != TW_OK) {
        return err;
    }
    caller->in = (tw_envelope){.id = TW_MSG_none};
    for (;;) {
        unsigned losses_now = atomic_load(&caller->socket.losses); /* before what came is taken */
        bool has_room = true;
        while (has_room) {
            if (caller_take(caller, &err)) {
                *in = caller->in.id == TW_MSG_none ? NULL : &caller->in;
                return err;
            }
            struct pollfd more = {.fd = caller->socket.fd, .events = POLLIN};
            has_room = poll(&more, 1, 0) > 0;
        }
        if (losses_now != losses) {
            return TW_E_UNAVAILABLE;
        }
        if (!caller_wait(caller, until_ms)) {
            return TW_E_TIMEOUT;
        }
    }
}

void tw_caller_close(tw_caller **caller)
{
    TW_ASSERT(caller != NULL);
    tw_caller *closed = *caller;
    if (closed == NULL) {
        return;
    }
    TW_ASSERT(closed->magic == CALLER_MAGIC);
    transport_close(&closed->socket);
    transport_packet_free(&closed->answer);
    tw_arena_fini(&closed->arena);
    tw_buf_fini(&closed->encoded);
    if (closed->wake_fd >= 0) {
        close(closed->wake_fd);
    }
    tw_free(closed);
    *caller = NULL;
}
