"""The journeys over real data run as their pages have them, and say what the pages say that was seen."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.test_docs import ROOT, blocks, shell

DATA = ROOT.parent / "shared" / "data"


def journey(daemon: Any, folder: Path, page: str, file: str) -> str:
    """Every line of a page after the daemon is started, on a port of its own; what was said."""
    if not (DATA / file).exists():
        pytest.skip(f"{file} is not beside this checkout")
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here, which the page asks the model with")
    shutil.copyfile(DATA / file, folder / file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    daemon.start("--http", address)
    first, *rest = blocks(ROOT / "docs" / "journeys" / page, "sh")
    assert "quarterdeckd --http 127.0.0.1:8080" in first
    script = "\n".join(rest).replace("127.0.0.1:8080", address)
    return shell(
        daemon, folder, script, QUARTERDECK_HOME=str(daemon.home.root), SCRIPTS=str(ROOT / "scripts"), limit=300
    )


def test_churn_is_asked_by_customer(absent: Any, tmp_path: Path) -> None:
    said = journey(absent, tmp_path, "churn.md", "telco_churn.csv")
    assert "exit code 6" in said and "15 of 1,713 held-out rows are equal to learnt ones" in said
    assert "accuracy 0.809" in said or "accuracy 0.808" in said, said
    before, after = re.findall(r'\{"rows":\[\{"label":"(\w+)","score":\[[\d.]+,([\d.]+)\]', said)
    assert before[0] == "Yes" and after[0] == "No" and float(before[1]) > 0.5 > 0.35 > float(after[1])
    assert '"statuses":["PRESENT","NOT_FOUND"]' in said and "0 mismatches of 1,000" in said
    assert "feature view account@1" in said


def test_bicycles_are_forecast_by_what_was_known_and_retrained_once(absent: Any, tmp_path: Path) -> None:
    said = journey(absent, tmp_path, "bikes.md", "bike_hour.csv")
    assert "WARNING: cnt follows exactly from last_hour" in said and "r2 1 (1 to 1)" in said, said
    assert "r2: 0.8876 meets >= 0.7" in said, "as it was known"
    effects = re.findall(r"last_hour PSI ([\d.]+) \(q [^)]*\) \(Benj.*against 4,250", said)
    assert [round(float(each), 2) for each in effects] == [0.34, 0.04, 0.48, 0.82]
    assert said.count("DRIFT: drift in") == 2 and "bike@2 is in Staging and not live: a person decides" in said
    retrains = absent.qd("--json", "ct", "why", "bike").stdout
    assert retrains.count('"cause":"drift"') == 1 and "bike@2" in retrains


def test_a_more_accurate_challenger_is_rejected_for_being_unfair(absent: Any, tmp_path: Path) -> None:
    said = journey(absent, tmp_path, "adult.md", "adult.csv")
    assert "3,021 of 7,075 held-out fnlwgt are learnt from too" in said
    assert "equalised odds: 0.0846 meets <= 0.1" in said
    assert "REJECTED: unfair: equalised odds 0.1277 (0.06819 to 0.1898), its limit is 0.1" in said
    assert said.count("exit code ") == 4 and "accuracy: 0.8555 meets >= 0.8" in said
