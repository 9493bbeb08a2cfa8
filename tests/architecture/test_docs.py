"""The documents are true: links lead somewhere, commands exist, code runs, the messages are what the records say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from quarterdeck.cli.main import command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
named = [str(page.relative_to(ROOT)) for page in PAGES]
_block = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The code of one language in a page."""
    return [code for found, code in _block.findall(page.read_text()) if found == language]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_of_a_document_leads_to_a_file(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


def commands() -> list[tuple[str, list[str]]]:
    """Every `qd …` that a document shows, in a block or between ticks, with the page."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [line.strip() for code in blocks(page, "sh") for line in code.splitlines()]
        lines += re.findall(r"`(qd [^`]+)`", text)
        for line in lines:
            for part in re.split(r"&&|\|", line.partition("  #")[0]):
                words = part.split()
                if words[:1] == ["qd"] and len(words) > 1 and "…" not in part and "NOUN" not in part:
                    found.append((str(page.relative_to(ROOT)), words[1:]))
    return found


def test_every_command_that_a_document_shows_exists_with_its_options() -> None:
    """Asked for its help, with the options it was shown with looked for in it."""
    runner = CliRunner()
    wrong = []
    shown = commands()
    assert len(shown) > 40
    for page, words in shown:
        while words and words[0] in ("--home", "--as"):
            words = words[2:]
        plain = [word for word in words if re.fullmatch(r"[a-z][a-z0-9-]*", word)][:2]
        for length in (len(plain), 1):
            done = runner.invoke(command(), [*plain[:length], "--help"])
            if done.exit_code == 0:
                break
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        lacking = [option for option in options if option not in done.output and f"/ {option}" not in done.output]
        if done.exit_code != 0 or lacking:
            wrong.append((page, " ".join(words), lacking or done.output.strip()[-200:]))
    assert not wrong


def test_the_messages_are_what_the_records_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "messages"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_python_of_the_readme_runs(daemon: Any) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    process = daemon.python(code)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.strip() == "FINISHED"


def test_the_shell_of_the_readme_runs_on_a_file_of_ones_own(daemon: Any, tmp_path: Path) -> None:
    """The lines after the daemon is started and before the console is opened, as they stand."""
    rows = "\n".join(f"{i % 7},{(i * 7) % 11},{'yes' if (i % 7) + (i * 7) % 11 > 7 else 'no'}" for i in range(400))
    (tmp_path / "churn.csv").write_text("calls,months,Churn\n" + rows + "\n")
    (code,) = [block for block in blocks(ROOT / "README.md", "sh") if "quickstart" in block]
    lines = [
        line for line in code.splitlines() if not line.startswith("quarterdeckd") and line.split()[:2] != ["qd", "#"]
    ]
    script = "\n".join(lines).replace("export QUARTERDECK_HOME=~/deck", f"export QUARTERDECK_HOME={daemon.home.root}")
    environ = {**daemon.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with daemon.client() as client:
        from quarterstore.records.deployments import ListDeployments

        assert [found.live for found in client.ask(ListDeployments())] == ["churn@1"]
