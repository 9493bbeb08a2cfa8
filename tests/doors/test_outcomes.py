"""The door of labels and outcomes: CSV, Parquet and JSON by HTTP, for who holds a key, and all that is wrong."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from quarterdeck import keys
from quarterstore.records.outcomes import ListUploads
from quarterstore.records.people import AddKey
from tests.conftest import Daemon
from tests.doors.test_mlflow import free_port

CSV, PARQUET = {"content-type": "text/csv"}, {"content-type": "application/vnd.apache.parquet"}


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[Daemon, str]]:
    daemon, port = Daemon(Path(tempfile.mkdtemp(prefix="qd", dir="/tmp"))), free_port()
    daemon.start("--profile", "team", "--rest", f"127.0.0.1:{port}")
    with daemon.client() as owner:
        for name, role in (("olga", "operator"), ("vera", "viewer")):
            owner.ask(AddKey(public=keys.make(daemon.home, name), person=name, roles=(role,)))  # type: ignore[arg-type]
    yield daemon, f"http://127.0.0.1:{port}"
    daemon.end()


def client(opened: tuple[Daemon, str], name: str) -> httpx.Client:
    secret = opened[0].home.secret_key(name).read_text().strip()
    return httpx.Client(base_url=opened[1], timeout=30, headers={"authorization": f"Bearer {secret}"})


def test_a_file_comes_as_csv_parquet_or_json_and_is_noted_under_its_sender(opened: tuple[Daemon, str]) -> None:
    rows = pl.DataFrame({"id": ["p1", "p2"], "value": [1, 0]})
    parquet = io.BytesIO()
    rows.write_parquet(parquet)
    with client(opened, "olga") as olga, opened[0].client() as owner:
        for body, kind in ((rows.write_csv().encode(), CSV), (parquet.getvalue(), PARQUET)):
            answer = olga.post("/v1/labels", content=body, headers=kind)
            assert answer.status_code == 200, answer.text
            assert (answer.json()["rows"], answer.json()["unknown"], answer.json()["by"]) == (2, 2, "olga")
        given = [{"id": "p1", "value": 9.5, "time": "2026-03-01T12:00Z"}, {"id": "p2", "value": 1, "time": 7}]
        answer = olga.post("/v1/outcomes", params={"metric": "revenue", "window": "60"}, json=given)
        assert (answer.status_code, answer.json()["metric"], answer.json()["window"]) == (200, "revenue", 60.0)
        assert {each.by for each in owner.ask(ListUploads())} == {"olga"}


def test_a_large_body_goes_by_a_file(opened: tuple[Daemon, str]) -> None:
    body = b"id,value\n" + b"".join(b"nobody-%d,1\n" % number for number in range(120_000))
    with client(opened, "olga") as olga:
        answer = olga.post("/v1/labels", content=body, headers=CSV)
        assert (answer.status_code, answer.json()["unknown"]) == (200, 120_000)
        assert olga.post("/v1/labels", content=body + b"x\n", headers=CSV).status_code == 400
    assert not list(opened[0].home.incoming.glob("body-*"))


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "words"),
    [
        ("/v1/outcomes?metric=m", b"id,value\np,x\n", CSV, 400, "line 2, value: got x, expected a finite number"),
        ("/v1/outcomes", b"id,value\np,1\n", CSV, 400, "metric: got none"),
        ("/v1/labels?metric=m", b"id,value\np,1\n", CSV, 400, "metric: got m"),
        ("/v1/labels?endpoint=nowhere", b"id,value\np,1\n", CSV, 404, "endpoint"),
        ("/v1/labels?endpont=e", b"id,value\np,1\n", CSV, 404, "nearest: endpoint"),
        ("/v1/labels?window=soon", b"id,value\np,1\n", CSV, 400, "window: got soon"),
        ("/v1/labels", b"id,value\np,1\n", {"content-type": "text/plain"}, 400, "content-type: got text/plain"),
        ("/v1/labels", b"not parquet", PARQUET, 400, "Parquet"),
        ("/v1/labels", b'[{"id":"p"}]', {"content-type": "application/json"}, 400, "value"),
        ("/v1/labels", b"[]", {"content-type": "application/json"}, 400, "no row"),
        ("/v1/lables", b"", CSV, 404, "/v1/labels"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(
    opened: tuple[Daemon, str], path: str, body: bytes, kind: dict[str, str], status: int, words: str
) -> None:
    with client(opened, "olga") as olga:
        answer = olga.post(path, content=body, headers=kind)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


def test_nobody_is_taken_without_a_key_and_a_viewer_may_not_send(opened: tuple[Daemon, str]) -> None:
    body = b"id,value\np,1\n"
    assert httpx.post(f"{opened[1]}/v1/labels", content=body, headers=CSV).status_code == 401
    wrong = {"authorization": "Bearer " + "x" * 40, **CSV}
    assert httpx.post(f"{opened[1]}/v1/labels", content=body, headers=wrong).status_code == 401
    with client(opened, "vera") as vera:
        assert vera.post("/v1/labels", content=body, headers=CSV).status_code == 403
        assert vera.post("/v1/labels", content=body * 300_000, headers=CSV).status_code == 403, (
            "before it is on the disk"
        )
    with client(opened, "olga") as olga:
        assert (
            olga.post("/v1/labels", content=body, headers={"origin": "http://elsewhere.example", **CSV}).status_code
            == 403
        )
        assert olga.get("/v1/labels").status_code == 405
