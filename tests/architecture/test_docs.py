"""The documents are true: links lead somewhere, commands exist, code runs, the messages are what the records say."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from quarterdeck.cli.main import command
from quarterdeckd.work.receivers import signature
from quarterstore.records.deployments import ListDeployments, ShowServing
from quarterstore.records.places import Home
from quarterstore.records.registry import RegisterVersion, Signature
from tests.pipeline.test_own_code import environment
from tests.small import onnx_file

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


def test_every_source_file_that_a_document_names_exists() -> None:
    """`api/writer.py` is looked for in each of the three packages, `scripts/setup` at the top."""
    above = [ROOT, *(ROOT / part for part in ("console/quarterdeck", "daemon/quarterdeckd", "storage/quarterstore"))]
    named_files = {
        (page.name, found)
        for page in PAGES
        for found in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py|scripts/[a-z_]+)`", page.read_text())
    }
    assert len(named_files) > 15
    assert not [(page, file) for page, file in named_files if not any((root / file).exists() for root in above)]


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("this is no git checkout: there is no list of the files that belong to it")
    ours = re.compile(rb"(?<![\w.])/" + rb"work/")
    files = [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert not [str(path) for path in files if ours.search(path.read_bytes())]


def test_the_example_of_adding_an_act_is_in_the_code() -> None:
    (code,) = blocks(ROOT / "docs" / "adding-an-act.md", "python")
    records = ROOT / "storage" / "quarterstore" / "records" / "registry.py"
    assert textwrap.dedent(code).strip() in records.read_text()


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
    """Asked for its help, with the options it was shown with looked for in it; a noun without the verb is a fault."""
    runner = CliRunner()
    wrong = []
    shown = commands()
    assert len(shown) > 40
    for page, words in shown:
        while words and words[0] in ("--home", "--as"):
            words = words[2:]
        plain = [word for word in words if re.fullmatch(r"[a-z][a-z0-9_-]*", word)][:2]
        for length in (len(plain), 1):
            done = runner.invoke(command(), [*plain[:length], "--help"])
            if done.exit_code == 0:
                break
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        lacking = [option for option in options if option not in done.output and f"/ {option}" not in done.output]
        unknown = length < len(plain) and words[1] == plain[1] and "Commands:" in done.output
        if done.exit_code != 0 or lacking or unknown:
            wrong.append((page, " ".join(words), lacking or done.output.strip()[-200:]))
    assert not wrong


@pytest.mark.parametrize("script", ["messages", "definitions"])
def test_the_messages_and_the_keys_of_definitions_are_what_the_records_say(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), "--check"], capture_output=True, text=True, timeout=60
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
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here, which the page asks the model with")
    plans = ("basic", "pro", "max")
    rows = "\n".join(f"{i % 50},{plans[i % 3]},{'yes' if i % 50 + 9 * (i % 3) > 30 else 'no'}" for i in range(400))
    (tmp_path / "churn.csv").write_text("tenure,plan,Churn\n" + rows + "\n")
    (code,) = [block for block in blocks(ROOT / "README.md", "sh") if "quickstart" in block]
    lines = [
        line for line in code.splitlines() if not line.startswith("quarterdeckd") and line.split()[:2] != ["qd", "#"]
    ]
    script = "\n".join(lines).replace("export QUARTERDECK_HOME=~/deck", f"export QUARTERDECK_HOME={daemon.home.root}")
    address = "$(qd serving status --json | grep -o 'http://[^\"]*')"
    script = script.replace("http://127.0.0.1:8080", address)
    environ = {**daemon.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with daemon.client() as client:
        assert [found.live for found in client.ask(ListDeployments())] == ["churn@1"]
        serving = client.ask(ShowServing())
    assert f"answers at {serving.address}/v2/models/churn/infer" in done.stderr
    assert '"name":"label","shape":[2],"datatype":"BYTES","data":["no","yes"]' in done.stdout.replace(" ", "")


def shell(daemon: Any, folder: Path, script: str, limit: float = 120, **environ: str) -> str:
    """Run lines of a page in bash, with the commands of this environment first; what they said."""
    found = {**daemon.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environ}
    command = ["bash", "-euo", "pipefail", "-c", script]
    try:
        done = subprocess.run(command, cwd=folder, env=found, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as late:
        said = "\n".join((each or b"")[-3000:].decode(errors="replace") for each in (late.stdout, late.stderr))
        raise AssertionError(f"not at its end after {limit:g} s; last it said:\n{said}\n{daemon.log()}") from None
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_tutorial_runs_as_it_stands(absent: Any, tmp_path: Path) -> None:
    """Every line after the daemon is started; the port is another, so that two may run beside each other."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here, which the tutorial asks the model with")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    absent.start("--http", f"127.0.0.1:{port}")
    first, *rest = blocks(ROOT / "docs" / "tutorial.md", "sh")
    assert "quarterdeckd --http 127.0.0.1:8080" in first
    said = shell(
        absent,
        tmp_path,
        "\n".join(rest).replace("127.0.0.1:8080", f"127.0.0.1:{port}"),
        QUARTERDECK_HOME=str(absent.home.root),
    )
    assert '"versions":["cancer@1"]' in said  # the first request after `deploy --wait` is answered
    assert "{'cancer@1': 569}" in said and re.search(r"\{'cancer@1': \d+, 'cancer@2': \d+\}|'cancer@2': \d+, 'c", said)
    assert "\nNONE" in said or "\nNEGLIGIBLE" in said


def test_training_with_ones_own_code_runs_as_it_stands(daemon: Any, tmp_path: Path) -> None:
    """On the rows that the page shows, with their texts and blanks, over and over with other numbers; then on the real
    file, where it is beside the checkout."""
    page = ROOT / "docs" / "how-to" / "train-your-own-code.md"
    (definition, apart, _), (code, code_apart), (table,) = (blocks(page, each) for each in ("toml", "python", "csv"))
    (tmp_path / "train.py").write_text(code)
    (tmp_path / "apart.py").write_text(code_apart)
    (tmp_path / "apart.toml").write_text(apart)
    environment(tmp_path / "venv", with_ours=True)
    header, *rows = csv.reader(table.splitlines())
    changed, real = header.index("tenure"), ROOT.parent / "shared" / "data" / "telco_churn.csv"
    many = [[*row[:changed], str(int(row[changed]) + n), *row[changed + 1 :]] for n in range(50) for row in rows]
    with (tmp_path / "churn.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *many])
    (tmp_path / "own.toml").write_text(definition)
    for name in ("own", "apart"):
        shell(daemon, tmp_path, f"qd pipeline run {name}.toml --wait", QUARTERDECK_HOME=str(daemon.home.root))
    for beside in [real] if real.exists() else []:
        shutil.copy(beside, tmp_path / "churn.csv")
        shell(daemon, tmp_path, "qd pipeline run own.toml --wait", QUARTERDECK_HOME=str(daemon.home.root))


def test_a_program_is_told_and_a_signature_is_checked_as_the_page_says(daemon: Any, tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "react-to-events.md"
    said = shell(daemon, tmp_path, blocks(page, "sh")[0], QUARTERDECK_HOME=str(daemon.home.root))
    assert "MADE" in said and "quarterdeck.hooks.tested" in (tmp_path / "told.jsonl").read_text()
    names: dict[str, Any] = {}
    exec(blocks(page, "python")[0], names)
    header = signature(b"a secret", int(time.time()), b'{"a": 1}')
    assert names["genuine"](b"a secret", header, b'{"a": 1}')
    assert not names["genuine"](b"another", header, b'{"a": 1}')
    assert not names["genuine"](b"a secret", signature(b"a secret", 1, b"{}"), b"{}")


def test_a_sender_and_a_consumer_of_a_stream_work_as_the_page_has_them(daemon: Any, tmp_path: Path) -> None:
    sender, consumer = blocks(ROOT / "docs" / "how-to" / "answer-a-stream.md", "python")
    with daemon.client() as client:
        digest, size = client.put(onnx_file())
        asked = RegisterVersion(model="m", digest=digest, size=size, format="onnx", signature=Signature((), ()))
        client.ask(asked, timeout=60)
    words = ("stream", "m@latest", "--in", "ipc://in", "--out", "ipc://out")
    stream = json.loads(daemon.qd("--json", *words).stdout)["id"]
    (tmp_path / "rows.json").write_text(json.dumps({f"k{n}": {"x": [n, 1.0]} for n in range(450)}))
    found = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for code, words in (
            (sender, (f"ipc://{daemon.home.streams}/in.sock", str(tmp_path / "rows.json"))),
            (consumer, (f"ipc://{daemon.home.streams}/out.sock", "450")),
        )
    ]
    said = [process.communicate(timeout=60) for process in found]
    assert [process.returncode for process in found] == [0, 0], said
    assert said[0][0] == "all acknowledged\n"
    lines = said[1][0].splitlines()
    assert len(lines) == 450 and all(" ok {'rows': [{'y': " in line and "'version': 'm@1'" in line for line in lines)
    assert daemon.qd("stream", "stop", stream).returncode == 0


def test_a_store_is_moved_as_the_page_says(absent: Any, tmp_path: Path) -> None:
    """The keys go by hand: a restored store without them answers nobody."""
    before, after = blocks(ROOT / "docs" / "how-to" / "move-a-store.md", "sh")
    absent.start()
    assert absent.python("import quarterdeck\nwith quarterdeck.connect().run('m') as r: r.log(x=1)").wait(30) == 0
    head = json.loads(absent.qd("audit", "head", "--json").stdout)
    shell(absent, tmp_path, before, QUARTERDECK_HOME=str(absent.home.root))
    absent.stop()
    shutil.copytree(absent.home.root / "keys", tmp_path / "keys")
    moved = absent.folder / "moved"
    until, start, check = after.replace("~/deck", str(moved)).partition(f"quarterdeckd --home {moved} --background\n")
    assert start
    shell(absent, tmp_path, until)
    absent.home = Home(moved, absent.environ)
    absent.start()
    said = shell(absent, tmp_path, check.replace("SEQ", str(head["seq"])).replace("HASH", head["hash"]))
    assert "True" in said
    assert "FINISHED" in shell(absent, tmp_path, f"qd --home {moved} runs")
