"""A gate of a canary as a person writes it: `accuracy:0.02`, `psi:0.2`, `metric:revenue:-5%`, `fairness:sex:0.1`."""

from __future__ import annotations

from typing import get_args

import msgspec

from quarterstore.records.canaries import CanaryGate, GateKind
from quarterstore.records.faults import got

FORMS = "KIND:LIMIT or KIND:OF:LIMIT, then ,coverage=SHARE where labels are counted"


def gate_of(text: str) -> CanaryGate:
    """The gate; raises `Invalid` on `gate`. What its limit may be is the daemon's to say."""
    words, *options = text.split(",")
    kind, *rest = words.split(":")
    if kind not in get_args(GateKind):
        raise got("gate", text, f"one of {', '.join(get_args(GateKind))}, then :LIMIT")
    if not 1 <= len(rest) <= 2:
        raise got("gate", text, FORMS)
    *of, limit = rest
    fields = {"kind": kind, "limit": _number(limit.removesuffix("%"), text), "of": of[0] if of else ""}
    if limit.endswith("%"):
        fields |= {"limit": _number(limit.removesuffix("%"), text) / 100, "relative": True}
    for option in options:
        name, _, value = option.partition("=")
        if name.strip() != "coverage":
            raise got("gate", text, FORMS)
        fields["coverage"] = _number(value, text)
    return msgspec.convert(fields, CanaryGate)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise got("gate", whole, FORMS) from None
