"""Figures in the unit that people would say."""

UNITS = ("B", "kB", "MB", "GB")


def size(count: float) -> str:
    """Bytes as people read them, 1000 to a unit."""
    at = 0
    while count >= 1000 and at < len(UNITS) - 1:
        count, at = count / 1000, at + 1
    return f"{count:.1f} {UNITS[at]}" if at else f"{count:.0f} B"


def counted(count: int, word: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
