"""Several gateways on one port: threads of one process, and processes of their own.

The kernel spreads connections over those who listen. Each gateway has its own streams; a killed one
costs its connections, which resume at another with `since`.
"""

import asyncio
import json
import re
import subprocess

import pytest

from clients import Client, run
from history import check
from server import BINARY, PATIENCE_S, wait_until
from workload import History

TWO = ["--gateways", "2"]
FEW = 4  # connections that each of two is to have


@pytest.fixture(params=["threads", "processes"])
def two_gateways(request, make_server):
    if request.param == "threads":
        return make_server(flags=TWO).start()
    return make_server(flags=TWO, layout="ipc", more_actors=["gateway.1"]).start()


def by_gateway(server, name):
    """A figure of each of two gateways: the page leaves out who is busy for two seconds."""

    def told():
        text = server.http("/metrics", admin=True)[1]
        found = re.findall(rf'^tidewire_{name}\{{actor="(gateway[.0-9]*)"\}} (\S+)$', text, re.M)
        return found if len(found) == 2 else None

    found = wait_until(told, PATIENCE_S, f"{name} of two gateways")
    return {actor: int(value) for actor, value in found}


async def open_at_both(server):
    """Clients that the kernel has given to both gateways, and what each has."""
    clients = []
    for _ in range(40):
        clients += [await Client.open(server.url()) for _ in range(8)]
        has = await asyncio.to_thread(by_gateway, server, "websockets")
        if len(has) == 2 and min(has.values()) >= FEW:
            return clients, has
    raise AssertionError(f"{len(clients)} connections are not spread: {has}")


def test_clients_of_two_gateways_see_the_same(two_gateways):
    server = two_gateways

    async def scenario():
        clients, has = await open_at_both(server)
        assert sum(has.values()) == len(clients)
        for client in clients:
            await client.send(type="subscribe", mux_id=1, collections={"things": {}})
            await client.until_sync()
        async with await Client.open(server.url("/db")) as db:
            for i in range(20):
                await db.one("put", collection="things", doc={"_id": i, "n": i})
        for client in clients:
            told = await client.until(lambda f: f.get("key") == 19)
            assert [f["key"] for f in told] == list(range(20))
        live = await asyncio.to_thread(by_gateway, server, "streams_live")
        topics = await asyncio.to_thread(by_gateway, server, "topics")
        assert live == has, "each gateway has the streams of its connections"
        assert topics == dict.fromkeys(has, 1)
        for client in clients:
            await client.socket.close()

    run(scenario())


def test_connz_and_streamz_tell_all_gateways(two_gateways):
    server = two_gateways

    async def scenario():
        clients, has = await open_at_both(server)
        for client in clients:
            await client.send(type="subscribe", mux_id=1, collections={"things": {}})
            await client.until_sync()

        def page(name):  # of all: one says who was silent for two seconds
            def told():
                found = json.loads(server.http(name, admin=True)[1])
                return None if "silent" in found else found

            return wait_until(told, PATIENCE_S, name)

        connz = await asyncio.to_thread(page, "/connz")
        found = [e["gateway"] for e in connz["connections"] if e["kind"] == "websocket"]
        assert {name: found.count(name) for name in has} == has
        assert connz["count"] == len(connz["connections"])
        assert all(e["address"] == "127.0.0.1" and e["user"] == "" for e in connz["connections"])
        streamz = await asyncio.to_thread(page, "/streamz")
        assert streamz["streams"] == streamz["live"] == len(clients)
        assert {e["gateway"]: e["streams"] for e in streamz["topics"]} == has
        for client in clients:
            await client.socket.close()

    run(scenario())


def test_actorz_names_each_gateway(two_gateways):
    def running():
        status, text = two_gateways.http("/actorz", admin=True)
        actors = json.loads(text)["actors"] if status == 200 else []
        return {each["name"] for each in actors if each["state"] == "running"}

    wait_until(lambda: {"gateway", "gateway.1"} <= running(), 60, "two running gateways")


@pytest.mark.timeout(300)
def test_killed_gateway_costs_its_connections_which_resume_elsewhere(make_server):
    """SIGKILL for one of two gateways, again and again, while eight write and fifty follow."""
    server = make_server(flags=TWO, layout="ipc", more_actors=["gateway.1"]).start()
    cycles = 4
    kills = 0

    async def scenario():
        nonlocal kills
        history = History(server, 5)

        async def kill():
            nonlocal kills
            kills += 1
            if kills % 2 == 1:  # it stays away for a while: the other has all clients
                await asyncio.to_thread(server.kill, "gateway.1")
            else:
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(server.kill, "gateway")
                await asyncio.to_thread(server.start)
            if kills > cycles:  # the end: everybody resumes once more
                await asyncio.to_thread(server.kill, "gateway")
                await asyncio.to_thread(server.start)

        subscribers = await history.play(cycles, kill, most=60)
        assert len({w.srv for w in history.writes}) == 1
        check(history.writes, subscribers, squashes=True)
        kept = sum(len(s.sessions) <= 1 + cycles for s in subscribers)
        assert kept > 0, "a kill of one gateway must not cost the connections of the other"

    run(scenario())


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_repeated_at_two_gateways_of_a_process(make_server):
    server = make_server(flags=TWO).start()

    async def scenario():
        history = History(server, 6)

        async def kill():
            def both():
                has = by_gateway(server, "websockets")
                return len(has) == 2 and min(has.values()) > 0

            await asyncio.to_thread(wait_until, both, 60, "clients at both gateways")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)

        subscribers = await history.play(1, kill, most=60)
        check(history.writes, subscribers, squashes=True)

    run(scenario())


def run_it(*words):
    return subprocess.run(
        [BINARY, *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def test_wrong_gateways_are_refused_by_name(server, tmp_path):
    done = run_it("actor", "gateway.1", "--actors", f"ipc://{tmp_path}")
    assert done.returncode == 1
    assert "nothing to run: 'gateway.1'" in done.stderr and "--gateways 2" in done.stderr
    done = run_it("actor", "gateway.1", *TWO, "--listen", "127.0.0.1:0", "--actors", "ipc:///none")
    assert done.returncode == 1
    assert "cannot agree on a free port" in done.stderr
    done = run_it("serve", "--gateways", "9", "--memory")
    assert done.returncode == 1 and "gateways" in done.stderr
    # A server that shares nothing keeps its port for itself.
    done = run_it("serve", "--memory", *TWO, "--listen", f"127.0.0.1:{server.port}", "--admin", "")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr


def test_a_free_port_is_the_same_for_all_of_a_process(make_server):
    server = make_server(flags=[*TWO, "--listen", "127.0.0.1:0"])
    server.start(ready=False)

    def told():
        text = (server.directory / "server.log").read_text(errors="replace")
        return re.findall(r"listens at 127\.0\.0\.1:(\d+)", text)

    ports = wait_until(lambda: len(told()) == 2 and told(), 60, "two listeners")
    assert ports[0] == ports[1] != "0"
