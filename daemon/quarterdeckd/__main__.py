"""`quarterdeckd` and `python -m quarterdeckd`; a missing extra is one sentence, not a traceback."""

from __future__ import annotations

import gc
import logging
import os
import sys


def main() -> int:
    """Run the daemon, or say which extra is missing."""
    gc.disable()  # until the store is open: what is made till then stays
    try:
        from quarterdeckd.main import main as run
    except ModuleNotFoundError as error:
        print(
            f"error: daemon: got no module {error.name}, expected the extra: pip install 'quarterdeck[daemon]'",
            file=sys.stderr,
        )
        return 2
    code = run()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is closed; the interpreter's own end would only print a library's count of what it leaks


if __name__ == "__main__":
    sys.exit(main())
