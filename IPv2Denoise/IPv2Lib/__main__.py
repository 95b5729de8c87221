"""`python -m IPv2Lib` is the same as the console command `ipv2`."""

import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run one command and end the process with its exit code."""
    try:
        from .cli.commands import main
        from .cli.stopping import end_process
    except KeyboardInterrupt:  # while Python is still reading the library
        print("ipv2: stopped; nothing was written", file=sys.stderr)
        sys.exit(130)
    end_process(main())


if __name__ == "__main__":
    run()
