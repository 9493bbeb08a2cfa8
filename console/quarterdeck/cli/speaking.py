"""`qd ask -`: any message as a JSON line, its answer as a JSON line, over one connection, in order."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from quarterdeck.cli.context import Context
from quarterdeck.cli.printing import json_line
from quarterstore.records.faults import Fault, Invalid, missing
from quarterstore.records.messages import ASKABLE, BY_TAG


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
    tag = fields.get("type") if isinstance(fields, dict) else None
    kind = BY_TAG.get(str(tag))
    if kind is None or kind not in ASKABLE:
        raise missing("type", str(tag), [name for name, found in BY_TAG.items() if found in ASKABLE])
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise Invalid(str(error), field=str(tag)) from error
