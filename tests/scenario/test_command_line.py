"""What a user mistypes or gives wrongly at the command line: told with its cause, nothing lost."""

import json
import resource
import subprocess

from clients import run, settled
from server import BINARY, PATIENCE_S, wait_until

# Beyond a file's size a write fails as on a full disk, instead of ending the process.
AT_A_FULL_DISK = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]
MANY = 3000


def exported(server, collection):
    lines = server.run("export", collection).stdout.splitlines()
    return sorted(json.loads(line)["_id"] for line in lines)


def rejects(path):
    with open(f"{path}.rejects") as lines:
        return {each["line"]: each["error"] for each in map(json.loads, lines)}


def test_import_broken_lines_cost_no_other(server, tmp_path):
    path = tmp_path / "broken.ndjson"
    path.write_bytes(
        b'{"_id":1}\n{bad\n{"_id":2}\n{"_id":3,"a":"cut\n{"_id":4}\n'
        b'{"_id":5,"a":"\xff"}\n[7]\n{"_id":6,\n{"_id":7}\n{"_id":8'
    )
    done = server.run("import", "things", str(path), check=False, timeout=PATIENCE_S)
    assert done.returncode == 1 and "imported 4 records" in done.stdout, done
    run(settled(server))
    assert exported(server, "things") == [1, 2, 4, 7]
    told = rejects(path)
    assert sorted(told) == [2, 4, 6, 7, 8, 10]
    assert "next record" in told[2] and "quotes" in told[4] and "UTF-8" in told[6]


def test_import_without_its_key_is_rejected(server, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("id,name\n1,Ada\n2,Grace\n")
    done = server.run("import", "people", str(path), "--key", "number", check=False)
    assert done.returncode == 1 and "imported 0 records" in done.stdout, done
    assert len(rejects(path)) == 2 and "--key" in rejects(path)[2]
    done = server.run("import", "people", str(tmp_path), check=False)
    assert done.returncode == 1 and "is a directory" in done.stderr, done


def test_json_arguments_are_told_before_they_are_sent(server):
    for words, told in (
        (["put", "c", "{bad"], "a record is to be a JSON object"),
        (["watch", "c", "--filter", "{bad"], "--filter is to be a JSON object"),
        (["export", "c", "--filter", "[]"], "--filter is to be a JSON object"),
        (["sync", "c", "--manifest", "x", "--filter", "5"], "--filter is to be a JSON object"),
        (["watch", "entries", "--project", "seven"], "--project takes a number or text"),
    ):
        done = server.run(*words, check=False)
        assert done.returncode == 64 and told in done.stderr, (words, done)


def test_doctor_looks_where_the_server_is_to_listen(server, tmp_path):
    config = tmp_path / "tidewire.yaml"

    def found(port):
        config.write_text(f'server: {{listen: "127.0.0.1:{port}"}}\n')
        command = [BINARY, "doctor", "--config", str(config), "--data", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S).stdout

    assert "good      server " in found(server.port)
    closed = found(1)
    assert "BAD       server " in closed and "ws://127.0.0.1:1:" in closed, closed


def test_mistyped_words_are_told_with_what_there_is():
    def said(*words):
        done = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode in (1, 2), done
        return done.stderr

    assert "there is no verb 'serv'; did you mean 'serve'?" in said("serv")
    assert "did you mean" not in said("frobnicate")
    told = said("serve", "--memory", "--only", "gateway,servce")
    assert "there is no actor 'servce'" in told and "service processor" in told


def test_import_waits_at_a_full_disk_and_goes_on(make_server, tmp_path):
    server = make_server(wrapper=AT_A_FULL_DISK).start()
    path = tmp_path / "many.ndjson"
    path.write_text("".join('{"_id":%d,"text":"%s"}\n' % (i, "x" * 200) for i in range(MANY)))
    pid = server.processes[None].pid
    size = (server.directory / "data" / "log.db-wal").stat().st_size
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 65536, resource.RLIM_INFINITY))
    command = [BINARY, "import", "many", str(path), "--url", server.url("")]
    with open(tmp_path / "told", "w+") as told:
        with subprocess.Popen(command, stdout=told, stderr=told) as process:
            try:
                said = lambda: (tmp_path / "told").read_text()  # noqa: E731
                wait_until(lambda: "takes no records" in said(), PATIENCE_S, "the cause")
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
                assert process.wait(PATIENCE_S) == 0, said()
            finally:
                process.kill()
        assert f"imported {MANY} records" in said(), said()
        assert said().count("takes no records") == 1
    run(settled(server))
    assert exported(server, "many") == list(range(MANY))
