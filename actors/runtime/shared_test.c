/* shared_test.c - holders from several threads; readers never see half a write. */
#include "actors/runtime/shared.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { THREADS = 4, ROUNDS = 2000 };

struct scene {
    tw_shared *shared;
    tw_rwlock lock;
    uint64_t left;
    uint64_t right; /* always equal to left, under the lock */
    bool is_torn;
};

static void *holder_main(void *arg)
{
    struct scene *scene = arg;
    for (int i = 0; i < ROUNDS; i++) {
        tw_shared *mine = tw_shared_hold(scene->shared);
        tw_shared_drop(&mine);
        if (i % 4 == 0) {
            tw_rwlock_write(&scene->lock);
            scene->left++;
            scene->right++;
            tw_rwlock_done(&scene->lock);
        }
        tw_rwlock_read(&scene->lock);
        bool is_torn = scene->left != scene->right;
        tw_rwlock_done(&scene->lock);
        if (is_torn) {
            tw_rwlock_write(&scene->lock);
            scene->is_torn = true;
            tw_rwlock_done(&scene->lock);
        }
    }
    return NULL;
}

static void test_shared_by_threads_is_whole(void **unused)
{
    (void)unused;
    struct scene scene = {.shared = tw_shared_new(100)};
    assert_non_null(scene.shared);
    assert_int_equal(scene.shared->cap, 100);
    assert_int_equal(scene.shared->len, 0);
    tw_rwlock_init(&scene.lock);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, holder_main, &scene), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_false(scene.is_torn);
    assert_int_equal(scene.left, THREADS * ROUNDS / 4);
    assert_int_equal(atomic_load(&scene.shared->holders), 1);
    tw_shared_drop(&scene.shared);
    assert_null(scene.shared);
    tw_shared_drop(&scene.shared); /* accepts NULL */
    tw_rwlock_fini(&scene.lock);
}

static void test_shared_without_memory_is_null(void **unused)
{
    (void)unused;
    tw_alloc_fail_at(1);
    assert_null(tw_shared_new(10));
    tw_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_by_threads_is_whole),
        cmocka_unit_test(test_shared_without_memory_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
