"""`qd quickstart`: the first useful result from a file, and one line where a file cannot give one."""

from __future__ import annotations

import random
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import polars
import pytest

from quarterstore.records import datasets, jobs, pipelines, registry, runs

DATA = Path(__file__).parents[3] / "shared" / "data"
"""Real files beside the checkout, where there are any; the product runs without them."""


def qd(daemon: Any, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, run in a folder of its own."""
    command = [sys.executable, "-m", "quarterdeck.cli.main", "--home", str(daemon.home.root), *words]
    return subprocess.run(command, cwd=folder, env=daemon.environ, capture_output=True, text=True, timeout=150)


def kept(daemon: Any) -> list[Any]:
    """Everything that a quickstart could leave behind."""
    with daemon.client() as client:
        messages = (
            datasets.ListDatasets(),
            jobs.ListJobs(limit=1000),
            pipelines.ListPipelines(),
            pipelines.ListPipelineRuns(),
            registry.ListModels(),
            runs.ListRuns(limit=1000),
        )
        found = [client.ask(message) for message in messages]
    return [*found, sorted(path.name for path in daemon.home.artefacts.rglob("*") if path.is_file())]


def table(path: Path, rows: int, target: Any, **columns: Any) -> Path:
    """A CSV file; each column is a function of the row's number."""
    names = [*columns, "y"]
    lines = [",".join(names)]
    for number in range(rows):
        cells = [str(make(number)) for make in columns.values()]
        lines.append(",".join([*cells, str(target(number))]))
    path.write_text("\n".join(lines) + "\n")
    return path


def plain(number: int) -> float:
    """A column to learn from."""
    return random.Random(number).random()


def rises(number: int) -> str:
    """A target that follows it, as Yes and No."""
    return "Yes" if plain(number) > 0.5 else "No"


@pytest.mark.parametrize(
    ("file", "words", "metric"),
    [
        ("telco_churn.csv", ("--target", "Churn"), "roc auc"),
        pytest.param("adult.csv", ("--target", "income-per-year"), "roc auc", marks=pytest.mark.slow),
        ("bike_hour.csv", ("--target", "cnt", "--time", "dteday"), "r2"),
    ],
)
def test_a_real_file_becomes_a_registered_model(
    daemon: Any, tmp_path: Path, file: str, words: tuple[str, ...], metric: str
) -> None:
    """Blank cells, `?`, texts, 0/1 among Yes/No, an order in time."""
    if not (DATA / file).exists():
        pytest.skip(f"{file} is not beside this checkout")
    done = qd(daemon, tmp_path, "quickstart", str(DATA / file), *words)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("*.toml")
    model = tomllib.loads(written.read_text())["model"]
    with daemon.client() as client:
        version = client.ask(registry.ShowVersion(version=f"{model}@1"))
    found = {each.name: each for each in version.metrics}
    assert found[metric].value > 0.75 and found[metric].low <= found[metric].value <= found[metric].high
    assert f"qd promote {model}@1 Staging" in done.stderr


def test_blank_cells_question_marks_and_mixed_yes_no_are_read(daemon: Any, tmp_path: Path) -> None:
    """What people's files look like; grouped, so that no group is on both sides."""
    file = table(
        tmp_path / "people.csv",
        600,
        rises,
        amount=lambda n: "" if n % 11 == 0 else plain(n),
        job=lambda n: "?" if n % 13 == 0 else ("clerk", "smith", "baker")[n % 3],
        senior=lambda n: n % 2,
        partner=lambda n: "Yes" if n % 3 else "No",
        house=lambda n: f"h{n // 4}",
    )
    done = qd(daemon, tmp_path, "quickstart", str(file), "--target", "y", "--group", "house")
    assert done.returncode == 0, done.stderr
    with daemon.client() as client:
        version = client.ask(registry.ShowVersion(version="people@1"))
    features = {feature.name: feature for feature in version.signature.features}
    assert features["amount"].optional and {"clerk", "smith", "baker"} < set(features["job"].categories)
    assert "house" not in features
    again = qd(daemon, tmp_path, "pipeline", "run", "people.toml", "--wait")
    assert again.returncode == 0, again.stderr


def test_a_parquet_file_is_as_good_as_a_csv_file(daemon: Any, tmp_path: Path) -> None:
    polars.DataFrame({"a": [plain(n) for n in range(300)], "y": [rises(n) for n in range(300)]}).write_parquet(
        tmp_path / "rows.parquet"
    )
    done = qd(daemon, tmp_path, "quickstart", "rows.parquet", "--target", "y")
    assert done.returncode == 0, done.stderr


def test_rows_without_a_target_are_told_beside_all_of_them(daemon: Any, tmp_path: Path) -> None:
    file = table(tmp_path / "part.csv", 300, lambda n: rises(n) if n < 198 else "", a=plain)
    done = qd(daemon, tmp_path, "quickstart", str(file), "--target", "y")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("300 rows (198 with y), 1 features, predicting y")


def test_features_that_add_up_to_the_target_are_warned_of_and_no_refusal(daemon: Any, tmp_path: Path) -> None:
    """In the answer, as a tag of the version and of the run, in the job's log."""
    file = table(
        tmp_path / "rents.csv", 400, lambda n: n % 40 + n % 37, casual=lambda n: n % 40, member=lambda n: n % 37
    )
    done = qd(daemon, tmp_path, "quickstart", str(file), "--target", "y")
    assert done.returncode == 0, done.stderr
    said = "y follows exactly from casual, member (--ignore casual --ignore member)"
    assert f"\nWARNING: {said}" in done.stderr
    with daemon.client() as client:
        version = client.ask(registry.ShowVersion(version="rents@1"))
        run = client.ask(runs.ShowRun(run=version.run or ""))
    assert version.tags["warning"].startswith(said) and run.tags["warning"] == version.tags["warning"]
    assert run.job and f"WARNING: {said}" in (daemon.home.jobs / run.job / "log.txt").read_text()


def no_column(folder: Path) -> tuple[Path, str]:
    """A target that is not there."""
    return table(folder / "f.csv", 50, rises, alpha=plain, beta=plain), "alhpa"


def empty(folder: Path) -> tuple[Path, str]:
    """No bytes at all."""
    (folder / "f.csv").write_bytes(b"")
    return folder / "f.csv", "y"


def header_only(folder: Path) -> tuple[Path, str]:
    """Names and no rows."""
    return table(folder / "f.csv", 0, rises, a=plain), "y"


def one_class(folder: Path) -> tuple[Path, str]:
    """Nothing to tell apart."""
    return table(folder / "f.csv", 100, lambda n: "Yes", a=plain), "y"


def many_classes(folder: Path) -> tuple[Path, str]:
    """Ten thousand classes: an identifier, not a target."""
    return table(folder / "f.csv", 20_000, lambda n: f"c{n % 10_000}", a=plain), "y"


def missing_target(folder: Path) -> tuple[Path, str]:
    """A target without a value."""
    return table(folder / "f.csv", 100, lambda n: "", a=plain), "y"


def long_line(folder: Path) -> tuple[Path, str]:
    """200 MB without a line end."""
    path = folder / "f.csv"
    with path.open("wb") as file:
        file.write(b"a,y\n")
        for _ in range(200):
            file.write(b"x" * 1_000_000)
    return path, "y"


def no_parquet(folder: Path) -> tuple[Path, str]:
    """A name is no format."""
    (folder / "f.parquet").write_bytes(b"PAR1" + b"not really" * 20)
    return folder / "f.parquet", "y"


def no_text(folder: Path) -> tuple[Path, str]:
    """Bytes that are no text."""
    (folder / "f.csv").write_bytes(bytes(range(256)) * 40)
    return folder / "f.csv", "y"


def void_column(folder: Path) -> tuple[Path, str]:
    """A column without a value: said, with the option that leaves it out."""
    return table(folder / "f.csv", 100, rises, a=plain, void=lambda n: ""), "y"


def constant_column(folder: Path) -> tuple[Path, str]:
    """A column with one value."""
    return table(folder / "f.csv", 100, rises, a=plain, same=lambda n: 7), "y"


def two_rows(folder: Path) -> tuple[Path, str]:
    """Nothing to learn from, let alone to measure on."""
    return table(folder / "f.csv", 2, lambda n: ("Yes", "No")[n], a=plain), "y"


def few_targets(folder: Path) -> tuple[Path, str]:
    """Many rows, few of them with a target."""
    return table(folder / "f.csv", 300, lambda n: "YN"[n % 2] if n < 19 else "", a=plain), "y"


def rare_class(folder: Path) -> tuple[Path, str]:
    """A class that cannot be on both sides."""
    return table(folder / "f.csv", 100, lambda n: "Yes" if n == 7 else "No", a=plain), "y"


def absent_file(folder: Path) -> tuple[Path, str]:
    """No file at all."""
    return folder / "f.csv", "y"


def ragged(folder: Path) -> tuple[Path, str]:
    """A row with more cells than names."""
    table(folder / "f.csv", 50, rises, a=plain)
    with (folder / "f.csv").open("a") as file:
        file.write("1,Yes,3,4\n")
    return folder / "f.csv", "y"


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (no_column, 4, "nearest: alpha"),
        (empty, 2, ""),
        (header_only, 2, ""),
        (one_class, 2, "y"),
        (many_classes, 2, "y"),
        (missing_target, 2, "y"),
        (long_line, 2, ""),
        (no_parquet, 2, ""),
        (no_text, 2, ""),
        (absent_file, 2, ""),
        (two_rows, 2, "y: got 2 rows with a target, expected at least 20"),
        (few_targets, 2, "y: got 19 rows with a target, expected at least 20"),
        (rare_class, 2, "y: got 1 row of class Yes, expected at least 2 of each class"),
        (void_column, 2, "--ignore void"),
        (constant_column, 2, "--ignore same"),
        (ragged, 2, ""),
    ],
)
def test_a_file_that_cannot_be_learnt_from_is_one_line_and_nothing_is_left(
    daemon: Any, tmp_path: Path, make: Any, code: int, said: str
) -> None:
    """Field, got, expected; no model, run, dataset, file or definition afterwards."""
    file, target = make(tmp_path)
    before, files = kept(daemon), sorted(tmp_path.iterdir())
    done = qd(daemon, tmp_path, "quickstart", str(file), "--target", target)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr and len(done.stderr) < 1500
    assert ("got" in lines[0] and "expected" in lines[0]) and said in lines[0]
    assert done.stdout == ""
    assert kept(daemon) == before
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_class_that_only_comes_late_is_refused_before_anything_is_kept(
    daemon: Any, tmp_path: Path, kind: str
) -> None:
    """What only the split of the rows shows: no definition, dataset, pipeline or run is left, by either way in."""
    file = table(tmp_path / "late.csv", 200, lambda n: "New" if n > 190 else rises(n), at=lambda n: 1000 + n, a=plain)
    if kind == "parquet":
        polars.read_csv(file).write_parquet(file := tmp_path / "late.parquet")
    before, files = kept(daemon)[:-1], sorted(tmp_path.iterdir())
    done = qd(daemon, tmp_path, "quickstart", str(file), "--target", "y", "--time", "at")
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith(
        "error: y: got class New only in held-out rows, expected each class to be learnt from\n"
    )
    assert kept(daemon)[:-1] == before and sorted(tmp_path.iterdir()) == files
    data = f'[data]\nfile = "{file.name}"\ntarget = "y"\ntime = "at"\n'
    (tmp_path / "late.toml").write_text(f'name = "late"\nmodel = "late"\n{data}[split]\nby = "time"\n')
    again = qd(daemon, tmp_path, "pipeline", "run", "late.toml")
    assert (again.returncode, again.stdout) == (2, "") and "class New only in held-out rows" in again.stderr
    assert kept(daemon)[:-1] == before


def test_a_learner_of_the_other_task_is_refused_before_anything_is_kept(daemon: Any, tmp_path: Path) -> None:
    table(tmp_path / "f.csv", 100, plain, a=plain)
    definition = 'name = "f"\nmodel = "f"\n[data]\nfile = "f.csv"\ntarget = "y"\n[train]\nlearner = "{}"\n'
    before = kept(daemon)[:-1]
    for learner, code, said in (("logistic", 2, "expected ridge, forest"), ("forrest", 4, "nearest: forest")):
        (tmp_path / "f.toml").write_text(definition.format(learner))
        done = qd(daemon, tmp_path, "pipeline", "run", "f.toml")
        assert done.returncode == code and said in done.stderr, done.stderr
    assert kept(daemon)[:-1] == before


def test_numbers_to_predict_in_a_parquet_file_begin_with_a_learner_of_numbers(daemon: Any, tmp_path: Path) -> None:
    numbers = [plain(n) for n in range(200)]
    polars.DataFrame({"a": numbers, "y": [3 * one for one in numbers]}).write_parquet(tmp_path / "sums.parquet")
    done = qd(daemon, tmp_path, "quickstart", "sums.parquet", "--target", "y")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("200 rows, 1 features, predicting y (regression)")
    assert tomllib.loads((tmp_path / "sums.toml").read_text())["train"]["learner"] == "forest"


def test_without_a_daemon_it_is_said_how_to_start_one(absent: Any, tmp_path: Path) -> None:
    done = qd(absent, tmp_path, "status")
    assert done.returncode == 3
    assert "quarterdeckd --home" in done.stderr and done.stdout == ""
