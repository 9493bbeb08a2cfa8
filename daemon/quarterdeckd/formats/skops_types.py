"""Which types a skops file would construct that nobody vouches for, by skops' own reading of its schema."""

from __future__ import annotations

from pathlib import Path

from quarterstore.records.faults import Failed, got
from quarterstore.records.names import drawn


def untrusted(path: Path) -> tuple[str, ...]:
    """Names of types; nothing is constructed."""
    try:
        from skops.io import get_untrusted_types
    except ImportError as error:
        raise Failed("got no skops here, expected the extra 'learning'", field="file") from error
    try:
        return tuple(drawn(name, longest=120) for name in get_untrusted_types(file=path))
    except (
        Exception
    ) as error:  # skops raises whatever a schema that lies leads it to: KeyError, TypeError, RecursionError
        reason = drawn(" ".join(f"{type(error).__name__}: {error}".split()), longest=120)
        raise got("file", f"a skops file that cannot be read ({reason})", "one as skops.io.dump writes") from error
