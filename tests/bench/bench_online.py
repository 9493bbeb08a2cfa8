"""Features read online, ten of an entity: in a process, over HTTP, and made of rows; floors are a dict, SQLite, a host
that answers nothing."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from benching import counted, deck, folder, quantile, report
from serving_bench import Caller, serve

from quarterdeckd.features import materialise
from quarterdeckd.features.joining import KNOWN, TIME
from quarterstore.records import features, jobs, online
from quarterstore.shelf.online import Online, Pushed

ENTITIES = counted(200_000, 2_000)
ROWS = counted(1_000_000, 20_000)
NAMES = [f"f{number}" for number in range(10)]
ENTITY = features.Entity(name="customer", keys=(features.Key(name="customer"),))
FEATURES = tuple(features.Feature(name=name, kind="number") for name in NAMES)
VIEW = features.FeatureView(
    name="usage",
    version=1,
    entities=(ENTITY,),
    features=FEATURES,
    event_time="at",
    created_time=None,
    ttl=86_400.0,
    owner="",
    description="",
    tags={},
    created=0.0,
    created_by="",
)
REACH = {1: (15.0, 60.0), 100: (400.0, 1000.0)}
"""Microseconds at P50 and P99 in a process, by entities."""
REACH_HTTP = {1: 0.35, 100: 1.0}


class Silent:
    """A report that nobody reads."""

    def progress(self, *given: Any, **more: Any) -> None: ...


def rows(count: int, entities: int, now: float) -> pl.DataFrame:
    """Rows as a view keeps them, the newest second last."""
    numbers = pl.int_range(count, eager=True)
    at = (numbers - count) * 1000 + round(now * 1e6)
    values = [(numbers * 0.37 + place).cast(pl.Float64).alias(name) for place, name in enumerate(NAMES)]
    keys = pl.select(pl.format("customer-{}", pl.lit(numbers * 7919 % entities)).alias("customer")).to_series()
    return pl.DataFrame([keys, at.alias(TIME), at.alias(KNOWN), *values])


def made(place: Path, count: int, entities: int) -> tuple[online.OnlineView, float]:
    """A generation of that many rows, and how many rows a second it was made at."""
    now = time.time()
    rows(count, entities, now).write_parquet(place / "rows.parquet", compression="zstd", compression_level=3)
    spec = online.MaterialiseSpec(
        view=VIEW,
        lumps=(features.Lump(file=str(place / "rows.parquet"), of=("rows",)),),
        files=("rows",),
        made=now,
        folder=str(place / "usage"),
        generation=f"g{time.time_ns()}",
    )
    result = materialise.run(spec, Silent())
    read = online.OnlineView(
        name="usage",
        version=1,
        keys=VIEW.keys,
        features=FEATURES,
        ttl=VIEW.ttl,
        folder=f"{spec.folder}/{result.generation}",
        columns=tuple(NAMES),
        made=now,
    )
    return read, result.rows / result.seconds


def microseconds(read: Callable[[list[str]], Any], entities: int, rounds: int) -> list[float]:
    """How long each of so many reads took, of other entities each time."""
    chance = random.Random(1)
    asked = [[f"customer-{chance.randrange(ENTITIES)}" for _ in range(entities)] for _ in range(rounds)]
    found = []
    for keys in asked:
        began = time.perf_counter()
        read(keys)
        found.append((time.perf_counter() - began) * 1e6)
    return found


def in_process(place: Path, view: online.OnlineView) -> None:
    """LMDB, with something pushed beside it, and the floors in turns."""
    pushed = Pushed(place / "pushed", writes=True)
    reader = Online(view, pushed)
    table = {f"customer-{n}": (0.0, *(float(n + place) for place in range(10))) for n in range(ENTITIES)}
    base = sqlite3.connect(place / "floor.sqlite")
    base.execute(f"CREATE TABLE usage (customer TEXT PRIMARY KEY, at REAL, {', '.join(NAMES)}) WITHOUT ROWID")
    base.executemany(f"INSERT INTO usage VALUES (?, {', '.join('?' * 11)})", ((k, *v) for k, v in table.items()))
    base.commit()

    def from_sqlite(keys: list[str]) -> Any:
        marks = ", ".join("?" * len(keys))
        return base.execute(f"SELECT * FROM usage WHERE customer IN ({marks})", keys).fetchall()

    def from_dict(keys: list[str]) -> Any:
        return [dict(zip(NAMES, table[key][1:], strict=True)) for key in keys]

    for entities, (p50, p99) in REACH.items():
        rounds = counted(5000 if entities == 1 else 1000, 50)
        read: dict[str, list[float]] = {"lmdb": [], "dict": [], "sqlite": [], "p99": []}
        for _ in range(counted(7, 1)):
            times = microseconds(lambda keys: reader.read([(key,) for key in keys], time.time()), entities, rounds)
            read["lmdb"].append(quantile(times, 0.5))
            read["p99"].append(quantile(times, 0.99))
            read["dict"].append(quantile(microseconds(from_dict, entities, rounds), 0.5))
            read["sqlite"].append(quantile(microseconds(from_sqlite, entities, rounds), 0.5))
        middle = quantile(read["p99"], 0.5)
        report(
            f"read online in the host, 10 features of {entities}",
            figure="us p50",
            values=read["lmdb"],
            reach=f"<= {p50:g} us, p99 <= {p99:g} us",
            met=quantile(read["lmdb"], 0.5) <= p50 and middle <= p99,
            floor="dict",
            floors=read["dict"],
            more={"p99 us": round(middle, 1), "SQLite us": round(quantile(read["sqlite"], 0.5), 1)},
        )
    pushed.close()


def over_http() -> None:
    """A served deck; the floor is the same host asked whether it lives."""
    with deck() as daemon, folder() as place:
        address = serve(daemon)
        entities = counted(50_000, 1_000)
        now = time.time()
        frame = rows(entities, entities, now).rename({TIME: "at"}).drop(KNOWN)
        frame.with_columns(pl.col("at") / 1e6).write_parquet(place / "rows.parquet")
        with daemon.client(timeout=60) as client:
            client.ask(features.DefineView(name="usage", entities=(ENTITY,), features=FEATURES, event_time="at"))
            digest, _ = client.put(place / "rows.parquet")
            for asked in (features.AddRows(view="usage", digest=digest), online.Materialise(view="usage")):
                job = client.ask(asked)
                for _ in client.follow(0):
                    if client.ask(jobs.ShowJob(job=job.id)).state == "SUCCEEDED":
                        break
        floor = Caller(address, "/v2/health/live", method="GET")
        for count, most in REACH_HTTP.items():
            keys = [{"customer": f"customer-{number * 31 % entities}"} for number in range(count)]
            caller = Caller(address, "/v1/features/usage", json.dumps({"keys": keys}).encode())
            while "NOT_FOUND" in caller()["statuses"]:
                time.sleep(0.05)  # until the host was told of the generation: nothing says so from outside
            found, floors, p99 = [], [], []
            for _ in range(counted(7, 1)):
                times = microseconds(lambda keys, caller=caller: caller(), 1, counted(2000, 50))
                found.append(quantile(times, 0.5) / 1000)
                p99.append(quantile(times, 0.99) / 1000)
                floors.append(quantile(microseconds(lambda keys: floor(), 1, counted(2000, 50)), 0.5) / 1000)
            report(
                f"read online over HTTP, 10 features of {count}",
                figure="ms p50",
                values=found,
                reach=f"<= {most} ms",
                met=quantile(found, 0.5) <= most,
                floor="the same host, /v2/health/live",
                floors=floors,
                more={"p99 ms": round(quantile(p99, 0.5), 3)},
            )
            caller.close()
        floor.close()


def main() -> None:
    """Made of rows, read in a process, read over HTTP."""
    with folder() as place:
        rates = {share: [made(place, ROWS, ROWS // share)[1] for _ in range(counted(3, 1))] for share in (1, 10)}
        for share, values in rates.items():
            report(
                f"materialise, {ROWS:,} rows of {ROWS // share:,} entities",
                figure="rows a second",
                values=values,
                reach=">= 300,000",
                met=quantile(values, 0.5) >= 300_000,
            )
        in_process(place, made(place, ENTITIES, ENTITIES)[0])
    over_http()


if __name__ == "__main__":
    main()
