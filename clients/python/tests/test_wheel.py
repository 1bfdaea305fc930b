"""The package as users get it: a wheel, in an environment that holds nothing else."""

import os
import shutil
import subprocess
import venv
import zipfile

import pytest
from server import ROOT

TOOLS = os.environ.get("TIDEWIRE_TOOLS") or str(ROOT / ".tools")
SMOKE = """
import sys
from tidewire import Client, _nng
client = Client(sys.argv[1])
assert client.put("c", {"_id": sys.argv[2]}).version == 1
print(client.feed("c").poll(20).op, client._make.__name__)
"""


@pytest.mark.slow
@pytest.mark.timeout(400)  # three installs, on a busy machine
def test_the_wheel_works_in_a_clean_environment(server, url, tmp_path):
    # script/install keeps the packages that this needs; without them pip fetches them
    wheels = os.path.join(TOOLS, "wheels")
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    env.pop("PYTHONPATH", None)
    if os.path.isdir(wheels):
        env.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=wheels)
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")

    def run(*words):
        done = subprocess.run(
            [python, *words], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    leave = shutil.ignore_patterns("__pycache__", "build", "*.egg-info", "tests")
    shutil.copytree(ROOT / "clients" / "python", tmp_path / "source", ignore=leave)
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "-w", "out", "./source")
    (wheel,) = (tmp_path / "out").iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "tidewire/py.typed" in names and not [name for name in names if name.endswith(".so")]
    run("-m", "pip", "install", "--quiet", str(wheel))
    assert run("-c", SMOKE, url, "a").split() == ["put", "CtypesSocket"]
    run("-m", "pip", "install", "--quiet", f"tidewire[pynng] @ file://{wheel}")
    assert run("-c", SMOKE, url, "b").split() == ["put", "PynngSocket"]
