"""`quarterdeckd` and `python -m quarterdeckd`; a missing extra is one sentence, not a traceback."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the daemon, or say which extra is missing."""
    try:
        from quarterdeckd.main import main as run
    except ModuleNotFoundError as error:
        print(
            f"error: daemon: got no module {error.name}, expected the extra: pip install 'quarterdeck[daemon]'",
            file=sys.stderr,
        )
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
