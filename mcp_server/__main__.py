"""`python -m mcp_server` is `metaharness serve`."""

import sys

from metaharness.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
