"""A run done again from its record, and what differs between two: with a real repository, script and daemon."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

from quarterdeck.client import Client
from quarterdeck.source import installed
from quarterdeck.tolerance import Tolerance, tolerances_of
from quarterstore.records.faults import Invalid, NotFound
from quarterstore.records.models import CreateModel
from quarterstore.records.packages import KeepPackages
from quarterstore.records.registry import RegisterSource
from quarterstore.records.runs import DatasetInput, EndRun, LogInputs, ShowRun, Source, StartRun
from quarterstore.records.store import CollectGarbage

if TYPE_CHECKING:
    from conftest import Daemon

SCRIPT = """
import random, sys, quarterdeck
random.seed(7)
rows = [line.split(",") for line in open("rows.csv")][1:]
with quarterdeck.connect().run("again", seed=7, params={"rows": len(rows)}) as run:
    run.log_dataset("rows.csv", "train")
    run.log(acc=sum(float(cell) for _, cell in rows) + BIAS + random.random(), noise=float(sys.argv[1]))
print("the script printed this")
"""


class Project:
    """A repository with a script, and the home whose daemon keeps its runs."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon, self.folder = daemon, folder
        (folder / "deep").mkdir()
        self.bias("0.0")
        self.git("init", "-q")
        self.git("add", "deep/train.py")
        self.git("commit", "-qm", "one")
        self.rows("1,2", "3,4")

    def git(self, *words: str) -> None:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def bias(self, number: str) -> None:
        (self.folder / "deep" / "train.py").write_text(SCRIPT.replace("BIAS", number))

    def rows(self, *lines: str) -> None:
        (self.folder / "deep" / "rows.csv").write_text("\n".join(["a,b", *lines]) + "\n")

    def train(self, *words: str) -> str:
        """Run the script in its folder; its run."""
        environ = {**self.daemon.environ, "QUARTERDECK_HOME": str(self.daemon.home.root)}
        command = [sys.executable, *(words or ("train.py", "0.5"))]
        subprocess.run(command, cwd=self.folder / "deep", env=environ, check=True, capture_output=True)
        return str(json.loads(self.daemon.qd_process("--json", "runs", "--limit", "1").stdout)["id"])

    def repro(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.daemon.qd_process("--json", "run", "repro", *words)


@pytest.fixture
def project(daemon: Daemon, tmp_path: Path) -> Iterator[Project]:
    yield Project(daemon, tmp_path)


def test_a_run_is_done_again_with_its_code_and_rows_though_both_have_changed(project: Project, client: Client) -> None:
    project.bias("0.25")  # a change that is not committed
    run = project.train()
    project.bias("100")
    project.rows("9,9")
    project.git("commit", "-qam", "two")
    before = (project.folder / "deep" / "train.py").read_bytes()
    done = project.repro(run)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [(each["metric"], each["delta"], each["within"]) for each in answer["metrics"]] == [
        ("acc", 0.0, True),
        ("noise", 0.0, True),
    ]
    assert answer["differences"] == [] and "the script printed this" in done.stderr
    again = client.ask(ShowRun(run=answer["run"]))
    former = client.ask(ShowRun(run=run))
    assert again.tags["quarterdeck.reproduces"] == run
    assert (again.source.commit, again.source.patch) == (former.source.commit, former.source.patch)
    assert again.inputs[0].digest == former.inputs[0].digest
    assert (project.folder / "deep" / "train.py").read_bytes() == before  # nothing of the person's was touched
    assert not Path(str(again.source.folder)).exists()


def test_a_metric_outside_its_tolerance_is_said_and_exits_1(project: Project, client: Client) -> None:
    (project.folder / "deep" / "train.py").write_text(SCRIPT.replace("BIAS", "random.SystemRandom().random() * 0.001"))
    run = project.train()
    strict = project.repro(run)
    assert strict.returncode == 1 and json.loads(strict.stdout)["within"] is False
    assert "outside the tolerance: acc" in project.daemon.qd_process("run", "repro", run).stderr
    assert project.repro(run, "--tolerance", "acc=0.002").returncode == 0
    assert project.repro(run, "--tolerance", "acc=1%").returncode == 0
    assert project.repro(run, "--tolerance", "1e-9").returncode == 1


def test_what_cannot_be_made_as_it_was_is_said_before_anything_runs(project: Project, client: Client) -> None:
    run = project.train()
    (project.folder / "deep" / "untracked.py").write_text(SCRIPT.replace("BIAS", "0"))
    untracked = project.train("untracked.py", "1")
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"patch": "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-no\n+yes\n"}, 6, "do not apply to"),
        ({"commit": "0" * 40}, 4, "is not in a repository"),
        ({"commit": "--upload-pack=touch canary"}, 6, "expected a commit"),
        ({"command": None}, 6, "has no recorded command"),
        ({"command": "python 'x"}, 6, "is no list of words"),
        ({"host": "elsewhere"}, 6, "ran on elsewhere"),
        ({"inside": "../.."}, 6, "expected a folder of the commit"),
    ]
    source = client.ask(ShowRun(run=run)).source
    before = client.ask(ShowRun(run=run))
    for changed, code, said in cases:
        fields = {name: getattr(source, name) for name in source.__struct_fields__}
        broken = client.ask(StartRun(experiment="broken", source=Source(**{**fields, **changed})))
        client.ask(EndRun(run=broken.id))
        done = project.repro(broken.id)
        assert (done.returncode, said in done.stderr) == (code, True), (changed, done.stderr)
        assert "running:" not in done.stderr and done.stdout == ""
    done = project.repro(untracked)
    assert done.returncode == 6 and "untracked.py is not in" in done.stderr
    dry = project.repro(run, "--dry-run")
    assert dry.returncode == 0 and "would run: " in dry.stderr and "printed" not in dry.stderr
    assert project.repro("run-none").returncode == 4
    assert client.ask(ShowRun(run=run)) == before


def test_rows_that_are_gone_are_named_by_their_hash(project: Project, client: Client) -> None:
    project.rows("only,1", "here,2")
    run = project.train()
    (used,) = client.ask(ShowRun(run=run)).inputs
    (project.daemon.home.artefacts / used.digest[:2] / used.digest).unlink()
    done = project.repro(run)
    assert done.returncode == 4 and used.digest in done.stderr
    assert client.ask(CollectGarbage(dry_run=True)).dry_run


def test_a_command_that_fails_or_opens_no_run_is_a_failure(project: Project, client: Client) -> None:
    run = project.train()
    fields = client.ask(ShowRun(run=run)).source
    for command, said in (("python -c 'raise SystemExit(3)'", "ended with 3"), ("python -c 0", "opened no run")):
        kept = {name: getattr(fields, name) for name in fields.__struct_fields__}
        broken = client.ask(StartRun(experiment="failing", source=Source(**{**kept, "command": command})))
        client.ask(EndRun(run=broken.id))
        done = project.repro(broken.id)
        assert done.returncode == 1 and said in done.stderr


def test_packages_that_are_not_as_they_were_come_with_the_command_that_makes_them_so(
    project: Project, client: Client
) -> None:
    """Said before anything runs; what is no package in a record is no word of the command."""
    first = client.ask(ShowRun(run=project.train()))
    assert "packages" not in project.repro(first.id, "--dry-run").stderr
    then = [each for each in installed() if not each.startswith("msgspec==")]
    kept = KeepPackages(packages=(*then, "msgspec==0.1.0", "gone_by_now==1!2.0+cpu", "x; touch y==1", "--pre==1"))
    source = replace(first.source, packages=client.ask(kept).digest)
    run = client.ask(StartRun(experiment="again", source=source, params=first.params)).id
    said = project.repro(run, "--dry-run").stderr.splitlines()
    named = next(line for line in said if "are not as they were" in line)
    assert f"msgspec 0.1.0 ({msgspec.__version__} is here)" in named and "gone_by_now 1!2.0+cpu (none is here)" in named
    told = next(line.partition(": as they were: ")[2] for line in said if "pip install" in line)
    assert shlex.split(told) == [sys.executable, "-m", "pip", "install", "gone_by_now==1!2.0+cpu", "msgspec==0.1.0"]


def test_somebody_elses_command_is_not_run_without_being_told_twice(team: Daemon) -> None:
    with team.client() as owner:
        run = owner.ask(StartRun(experiment="e", source=Source(command="python -c 0")))
    done = team.qd_process("--as", "ana", "run", "repro", run.id)
    assert done.returncode == 6 and "not of ana" in done.stderr and "--trust" in done.stderr


def test_two_runs_are_told_apart_by_code_rows_and_numbers(project: Project) -> None:
    first = project.train()
    project.bias("5")
    project.rows("1,2", "3,5", "3,5")
    second = project.train()
    done = project.daemon.qd_process("diff", first, second)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["param", "rows", "2", "3", "+1"] in lines
    assert ["dataset", "train:", "rows", "added", "-", "2"] in lines
    assert ["dataset", "train:", "rows", "removed", "1", "-"] in lines
    assert "+    run.log(acc=sum(float(cell) for _, cell in rows) + 5 + " in done.stdout
    assert any(line[:2] == ["metric", "acc"] and line[-1].startswith("+1") for line in lines)
    same = project.daemon.qd_process("diff", first, first)
    assert (same.returncode, same.stdout, same.stderr.strip()) == (0, "", "no difference")
    unknown = project.daemon.qd_process("diff", first, second[:-1] + ("y" if second.endswith("x") else "x"))
    assert unknown.returncode == 4 and second in unknown.stderr


def test_rows_that_are_gone_do_not_hide_the_other_differences(project: Project, client: Client) -> None:
    first = project.train()
    project.rows("7,8")
    second = project.train()
    (used,) = client.ask(ShowRun(run=second)).inputs
    (project.daemon.home.artefacts / used.digest[:2] / used.digest).unlink()
    done = project.daemon.qd_process("diff", first, second)
    assert done.returncode == 0 and "the rows cannot be counted" in done.stderr and "metric" in done.stdout


NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize(
    ("text", "before", "after", "holds"),
    [
        ("0.01", 1.0, 1.01, True),
        ("0.01", 1.0, 1.02, False),
        ("1%", -200.0, -198.0, True),
        ("1%", -200.0, -197.9, False),
        ("0", NAN, NAN, True),
        ("inf", NAN, 1.0, False),
        ("0", INF, INF, True),
        ("inf", INF, -INF, False),
        ("0", 0.0, -0.0, True),
        ("1e300", 1e308, -1e308, False),
        ("0", 1.0, None, False),
    ],
)
def test_a_tolerance_holds(text: str, before: float, after: float | None, holds: bool) -> None:
    found: Tolerance = tolerances_of([f"acc={text}"], ["acc"])["acc"]
    assert found.holds(before, after) is holds


@pytest.mark.parametrize("text", ["acc", "acc=", "acc=x", "acc=-1", "acc=nan", "=", "acc=1%%"])
def test_a_tolerance_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="tolerance: got"):
        tolerances_of([text], ["acc"])


def test_a_tolerance_for_a_metric_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="nearest: acc"):
        tolerances_of(["ac=1"], ["acc", "loss"])


def with_input(client: Client, run: str, **used: str) -> str:
    """A run as another one was, that used other data."""
    former = client.ask(ShowRun(run=run))
    made = client.ask(StartRun(experiment="inputs", source=former.source)).id
    client.ask(LogInputs(run=made, inputs=(DatasetInput(name="rows", **used),)))
    client.ask(EndRun(run=made))
    return made


@pytest.mark.parametrize("place", ["../../escaped.csv", "/ABOVE/escaped.csv", "link/escaped.csv"])
def test_rows_are_never_written_outside_the_folder_that_is_made(project: Project, client: Client, place: str) -> None:
    """V1: a recorded place is a name that somebody chose, and a link may lie in the commit."""
    outside = project.folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (project.folder / "deep" / "link").symlink_to(outside)
    project.git("add", "deep/link")
    project.git("commit", "-qm", "a link")
    digest, _ = client.put(b"a,b\n1,2\n")
    run = with_input(
        client, project.train(), digest=digest, source_type="local", source=place.replace("/ABOVE", str(outside))
    )
    done = project.repro(run)
    assert done.returncode == 6 and "is not there" in done.stderr, done.stderr
    assert list(outside.iterdir()) == [] and not (project.folder.parent / "escaped.csv").exists()


def test_an_address_in_a_record_is_never_fetched(project: Project, client: Client) -> None:
    """V5: a place of data, or of a version by reference, is a text."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/rows.csv"
        digest, _ = client.put(b"a,b\n1,2\n")
        runs = [
            with_input(client, project.train(), digest=digest, source_type=kind, source=address)
            for kind in ("http", "local")
        ]
        client.ask(CreateModel(model="elsewhere"))
        client.ask(RegisterSource(model="elsewhere", source=address))
        for words in (
            ("run", "repro", runs[0]),
            ("run", "repro", runs[1]),
            ("diff", *runs),
            ("lineage", "elsewhere@1"),
        ):
            assert project.daemon.qd_process(*words).returncode in (0, 1)  # the script misses its rows, and says so
        with pytest.raises(BlockingIOError):
            listener.accept()
