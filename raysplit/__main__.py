"""``python -m raysplit``: the command where its script is not on the path, as in a Ray job that brings the package."""

import sys

from raysplit import own_code

own_code.put_last()  # before anything else is imported

from raysplit.cli.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
