"""`python -m IPv2Lib` is the same as the console command `ipv2`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
