"""Clients that were not written by us: npm `ws` and the WebSocket of headless Chromium."""

import os
import shutil
import subprocess

import pytest

from server import PATIENCE_S, ROOT


def node(script, *words):
    if shutil.which("node") is None or "TIDEWIRE_NODE_MODULES" not in os.environ:
        pytest.skip("node or its packages are not installed (script/install test)")
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "node" / script), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0 and done.stdout.strip() == "good", done.stdout + done.stderr


def test_npm_ws(server):
    node("resume.mjs", f"ws://127.0.0.1:{server.port}")


def test_headless_chromium(server):
    if "TIDEWIRE_CHROMIUM" not in os.environ:
        pytest.skip("chromium is not installed (script/install test)")
    node("browser.mjs", f"ws://127.0.0.1:{server.port}", f"http://127.0.0.1:{server.port}/healthz")


def test_marks_of_sync_in_javascript():
    node("sync_marks.mjs")
