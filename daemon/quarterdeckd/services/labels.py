"""Tags as the rules of every noun check and change them."""

from __future__ import annotations

from quarterstore.records.faults import got
from quarterstore.records.names import checked_text

LONGEST = 8000


def checked_tags(tags: dict[str, str]) -> dict[str, str]:
    """Tags with names that can be drawn and values of a bearable length."""
    for name, value in tags.items():
        checked_text("tags", name)
        if len(value) > LONGEST:
            raise got(f"tags.{name}", f"{len(value)} characters", f"at most {LONGEST}")
    return tags


def merged(tags: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    """Tags after a change; an empty value removes."""
    return {name: value for name, value in {**tags, **changes}.items() if value}
