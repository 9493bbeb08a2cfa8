"""Rows checked by rules in a throw-away process that is given the question as msgpack on stdin: `python -m
quarterdeckd.pipeline.check_rows FILE [REFERENCE]`."""

from __future__ import annotations

import sys

from msgspec.structs import replace

from quarterdeckd.pipeline import checking, files
from quarterdeckd.pipeline.throw_away import answered
from quarterstore.records.checks import CheckRows, Finding
from quarterstore.records.pipelines import DataSection
from quarterstore.records.wire import decode


def check(query: CheckRows, path: str, reference: str | None) -> list[Finding]:
    """What each check finds in the rows of a file. Raises a `Fault` where they, or a pattern, cannot be read."""
    rules = query.rules
    checking.tried(rules.checks)
    section = DataSection(target="", file=query.named or None, missing=rules.missing, columns=rules.columns)
    raw = files.read(section, path)
    beside = files.read(replace(section, file=None), reference) if reference else None
    return checking.checked(raw, rules.checks, beside)


def main(argv: list[str]) -> int:
    """Print the findings as JSON, or the fault."""
    query = decode(sys.stdin.buffer.read(), CheckRows)
    return answered(lambda: check(query, argv[1], argv[2] if len(argv) > 2 else None))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
