"""`qd ask -`: any message as a JSON line, its answer as a JSON line, over one connection, in order."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from quarterdeck.cli.context import Context
from quarterdeck.cli.printing import json_line
from quarterstore.records.faults import Fault, Invalid, got, missing
from quarterstore.records.messages import ASKABLE, BY_TAG
from quarterstore.records.misfits import misfit
from quarterstore.records.names import drawn


def speak(context: Context) -> int:
    """Answer every line of stdin; exit 1 when any was a fault."""
    failed = 0
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            fields = msgspec.json.decode(line)
            request = fields.pop("id", None) if isinstance(fields, dict) else None
            print(json_line(context.client.ask(_message(fields), request=request)), flush=True)
        except Fault as fault:
            failed = 1
            _print_fault(fault)
        except msgspec.DecodeError as error:
            failed = 1
            _print_fault(Invalid(f"got a line that is no JSON ({error})", field="message"))
    return failed


def _print_fault(fault: Fault) -> None:
    print(msgspec.json.encode({"schema_version": 1, "fault": fault.record()}).decode(), flush=True)


def _message(fields: Any) -> Any:
    if not isinstance(fields, dict):
        raise got("message", drawn(repr(fields), longest=100), "a JSON object with a type")
    tag = fields.get("type")
    if tag is None:
        raise got("type", "nothing", "the word of a message, such as runs.list")
    kind = BY_TAG.get(str(tag))
    if kind is None or kind not in ASKABLE:
        raise missing("type", str(tag), [name for name, found in BY_TAG.items() if found in ASKABLE])
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise misfit(kind, str(error)) from error
