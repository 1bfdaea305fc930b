"""Every example of README.md runs, in order, against one server."""

import re

from server import ROOT


def test_each_example_of_the_readme_runs(server, url, tmp_path, capsys):
    text = (ROOT / "clients" / "python" / "README.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 4
    for number, source in enumerate(examples):
        exec(compile(source, f"README.md example {number + 1}", "exec"),
             {"url": url, "folder": str(tmp_path)})  # fmt: skip
    out = capsys.readouterr().out
    assert "put 2 1" in out and "Is the server running" in out
