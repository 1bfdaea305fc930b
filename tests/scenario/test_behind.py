"""A server that has fallen behind catches up by deeper batches, and is then as it was before.

A state that once reached is never left (each write a commit of its own, while more come than can be
committed) is what a stall must not lead to.
"""

import asyncio
import signal

from clients import Client, run
from server import wait_until

WRITERS, EACH = 5, 100


async def write_alone(writer, reader, first, count):
    """Writes one after the other, each awaited, with its event."""
    for number in range(first, first + count):
        await writer.one("insert", collection="c", doc={"_id": number})
        frame = await reader.next(60)
        assert frame["doc"]["_id"] == number


def test_a_stall_is_left_by_deeper_batches(server):
    commits, rows = "tidewire_commits_total", "tidewire_rows_written_total"

    async def scenario():
        async with await Client.open(server.url()) as reader:
            await reader.send(type="subscribe", mux_id=1, collections={"c": "*"})
            await reader.until_sync(1, 60)
            writers = [await Client.open(server.url()) for _ in range(WRITERS)]
            await write_alone(writers[0], reader, 0, 10)
            before = server.metric(commits), server.metric(rows)

            process = next(iter(server.processes.values()))
            process.send_signal(signal.SIGSTOP)  # what comes now waits in the sockets
            for number, writer in enumerate(writers):
                for i in range(EACH):
                    key = 1000 + number * EACH + i
                    await writer.send(
                        action="insert", reqID=key, collection="c", doc={"_id": key}
                    )
            process.send_signal(signal.SIGCONT)
            told = [(await reader.next(60))["doc"]["_id"] for _ in range(WRITERS * EACH)]
            assert sorted(told) == list(range(1000, 1000 + WRITERS * EACH))
            for number, writer in enumerate(writers):  # in the order of each writer
                own = range(1000 + number * EACH, 1000 + (number + 1) * EACH)
                assert [key for key in told if key in own] == list(own)
                for key in own:
                    reply = await writer.next(60)
                    assert reply.get("type") != "error" and reply["reqID"] == key, reply

            wait_until(
                lambda: server.metric(rows) - before[1] == WRITERS * EACH, 60, "the rows' count"
            )
            deep = server.metric(commits) - before[0]
            assert deep <= WRITERS * EACH / 8, f"{deep} commits for {WRITERS * EACH} rows"

            await write_alone(writers[0], reader, 5000, 10)  # not behind any more: one each
            all_rows = before[1] + WRITERS * EACH + 10
            wait_until(lambda: server.metric(rows) == all_rows, 60, "the last rows' count")
            assert server.metric(commits) - before[0] == deep + 10
            await asyncio.gather(*(writer.socket.close() for writer in writers))

    run(scenario())
