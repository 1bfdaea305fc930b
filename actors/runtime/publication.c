/* publication.c - lives and numbers of publications. */
#include "actors/runtime/publication.h"

static void u64_write(uint64_t value, char out[8])
{
    for (int i = 0; i < 8; i++) {
        out[i] = (char)(unsigned char)(value >> (56 - 8 * i));
    }
}

static uint64_t u64_read(const char *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | (unsigned char)in[i];
    }
    return value;
}

void publication_head_write(publication_head head, char out[PUBLICATION_HEAD_BYTES])
{
    TW_ASSERT(head.life != 0); /* pairs with publication_head_read */
    u64_write(head.life, out);
    u64_write(head.number, out + 8);
}

tw_err publication_head_read(tw_str bytes, publication_head *head, tw_str *message)
{
    TW_ASSERT(head != NULL);
    TW_ASSERT(message != NULL);
    if (bytes.len < PUBLICATION_HEAD_BYTES) {
        return TW_E_BAD_MESSAGE;
    }
    *head = (publication_head){.life = u64_read(bytes.ptr), .number = u64_read(bytes.ptr + 8)};
    *message = (tw_str){bytes.ptr + PUBLICATION_HEAD_BYTES, bytes.len - PUBLICATION_HEAD_BYTES};
    return head->life == 0 ? TW_E_BAD_MESSAGE : TW_OK;
}

bool publication_beat_is_due(publication_beat *self, unsigned followers, uint64_t now_ms)
{
    bool is_new = followers != self->followers;
    self->followers = followers;
    return self->due_ms != UINT64_MAX && (is_new || self->due_ms <= now_ms);
}

publication_verdict publication_reader_take(publication_reader *self, publication_head head,
                                            bool is_beat, uint64_t *lost)
{
    TW_ASSERT(head.life != 0);
    TW_ASSERT(lost != NULL);
    publication_head before = self->seen;
    *lost = 0;
    if (head.life != before.life) {
        self->seen = head;
        *lost = before.life == 0 ? 0 : 1;
        return PUBLICATION_GAP;
    }
    if (head.number <= before.number) {
        return is_beat && head.number == before.number ? PUBLICATION_NEXT : PUBLICATION_REPEATED;
    }
    self->seen = head;
    *lost = head.number - before.number - (is_beat ? 0 : 1);
    return *lost == 0 ? PUBLICATION_NEXT : PUBLICATION_GAP;
}
