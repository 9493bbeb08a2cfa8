"""Files of rows read in a child, so that none of a person's weighs on the daemon: how many rows one has, how two
differ, and whether a pipeline can learn from one."""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from quarterdeckd.api.dispatch import Prepare, Wide
from quarterdeckd.services.datasets import FORMATS
from quarterdeckd.services.joining import spec_of
from quarterdeckd.work.handover import placed
from quarterdeckd.work.uploads import Uploads, told_by
from quarterstore.ledger.finding import one_of
from quarterstore.ledger.state import State
from quarterstore.records import flows
from quarterstore.records.checks import CheckRows, Finding, ValidateSection, checked_section
from quarterstore.records.datasets import AddDataset, CompareDatasets, Dataset, RowDifference
from quarterstore.records.faults import Failed, FaultRecord, TimedOut, raised
from quarterstore.records.features import JoinSpec
from quarterstore.records.pipelines import CheckPipeline, CheckSpec, Definition, Step
from quarterstore.records.wire import encode
from quarterstore.shelf.artefacts import Artefacts

log = logging.getLogger(__name__)
READ_WITHIN = 120.0
THREADS = "2"
DIGITS = 64
REMEMBERED = 64
"""Answers that are kept: a pipeline that is run again as it was starts no child to look at the same rows."""


class RowFiles:
    """Answers what is asked of files of rows, and counts what is added; every method runs in a thread."""

    def __init__(self, view: State, artefacts: Artefacts) -> None:
        self._view = view
        self._artefacts = artefacts
        self._remembered = functools.lru_cache(REMEMBERED)(self._looked)

    def readers(self) -> dict[type, Wide]:
        """What is asked -> what answers it, in threads."""
        return {CompareDatasets: self.difference, CheckPipeline: self.check, CheckRows: self.findings}

    def preparers(self) -> dict[type, Prepare]:
        """The act to add rows -> what counts them, in threads."""
        return {AddDataset: self.counted}

    def difference(self, query: CompareDatasets, speaker: Any, seen: int) -> RowDifference:
        """What differs. Raises `NotFound` for rows that are not kept here, `Failed` for what is no table."""
        found: list[Dataset] = [
            one_of(self._view.datasets, field, getattr(query, field)) for field in ("before", "after")
        ]
        words = [word for dataset in found for word in (str(self._artefacts.checked(dataset.id)), dataset.format)]
        return msgspec.json.decode(self._counts(words), type=RowDifference)

    def counted(self, act: AddDataset) -> AddDataset:
        """The act with how many rows its file has, unless it says so, need not be counted or that is known: new rows of
        a name are what it has more. Rows that cannot be read, or not in time, are kept uncounted. Raises `NotFound` for
        a file that is not kept."""
        Uploads(self._artefacts).kept(act)
        known = self._view.datasets.get(act.digest)
        if not act.count or act.rows or (known is not None and known.rows) or act.format not in FORMATS:
            return act
        try:
            found = self._counts([str(self._artefacts.checked(act.digest)), act.format])
        except (Failed, TimedOut) as fault:
            log.warning("dataset %s is kept uncounted: %s", act.name, fault.line())
            return act
        return replace(act, rows=msgspec.json.decode(found, type=int))

    def _counts(self, words: list[str]) -> bytes:
        done = _child("rows", words)
        if done.returncode != 0:
            raise Failed(self._said(done), field="dataset")
        return done.stdout

    def findings(self, query: CheckRows, speaker: Any, seen: int) -> list[Finding]:
        """What each check finds in an upload. Raises `Invalid` for rules that are none, `NotFound` for files that
        are not kept."""
        rules = query.rules
        checked_section(ValidateSection(rules.checks, rules.reference), "rules")
        uploads = Uploads(self._artefacts)
        for field, digest in (("digest", query.digest), ("rules.reference", rules.reference)):
            if digest is not None:
                uploads.check_kept(field, digest)
        words = [str(self._artefacts.checked(one)) for one in (query.digest, rules.reference) if one is not None]
        return told_by("quarterdeckd.pipeline.check_rows", list[Finding], *words, given=encode(query))

    def check(self, query: CheckPipeline, speaker: Any, seen: int) -> list[Step]:
        """What its first steps say of the rows. Raises the fault that the job would end with."""
        definition = query.definition
        name = definition.data.dataset
        if name is not None and len(name) != DIGITS:
            name = one_of(self._view.datasets, "data.dataset", name).id
        path = str(self._artefacts.checked(name)) if name else None
        spec = CheckSpec(definition, self._joined(definition, Path(path) if path else None))
        return list(self._remembered(name, path, encode(spec)))

    def _looked(self, name: str | None, path: str | None, spec: bytes) -> list[Step]:
        done = _child("check", [path] if path else [], spec)
        try:
            if done.returncode == 0:
                return msgspec.json.decode(done.stdout, type=list[Step])
            fault = msgspec.json.decode(done.stdout, type=FaultRecord)
        except msgspec.DecodeError:
            raise Failed(self._said(done), field="data") from None
        raise raised(replace(fault, field="data") if fault.field == name else fault)

    def _joined(self, definition: Definition, path: Path | None) -> JoinSpec | None:
        """What the step `features` would join to a file of entities; None where there is no such step."""
        flows.check_features(definition)
        if path is None or not definition.data.features:
            return None
        with path.open("rb") as file:
            format_ = "parquet" if file.read(4) == b"PAR1" else "csv"
        spec = spec_of(self._view, definition, path.name, format_)
        return msgspec.convert(placed(self._artefacts, msgspec.to_builtins(spec)), JoinSpec)

    def _said(self, done: subprocess.CompletedProcess[bytes]) -> str:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        line = said[-1] if said else f"the child ended with {done.returncode}"
        return line[:300].replace(str(self._artefacts.folder), "artefacts")


def _child(module: str, words: list[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            [sys.executable, "-m", f"quarterdeckd.pipeline.{module}", *words],
            input=given,
            capture_output=True,
            timeout=READ_WITHIN,
            check=False,
            env={**os.environ, "POLARS_MAX_THREADS": THREADS},
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"the rows were not read within {READ_WITHIN:g} s", field="dataset") from error
