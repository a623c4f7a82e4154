"""``python -m raysplit``: the command where its script is not on the path, as in a Ray job that brings the package."""

import sys

from raysplit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
