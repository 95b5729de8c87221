"""`python -m IPv2Lib` is the same as the console command `ipv2`."""

from typing import NoReturn

from .cli import main
from .console import end_process


def run() -> NoReturn:
    """Run one command and end the process with its exit code."""
    end_process(main())


if __name__ == "__main__":
    run()
