"""`python -m metaharness`."""

import sys

from metaharness.cli import main

if __name__ == "__main__":
    sys.exit(main())
