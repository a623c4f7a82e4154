"""The entry of the command, which can be stopped from its first moment; ``python -m raysplit`` runs it too."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it. A signal that comes before it is loaded ends it with one line."""
    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _stopped)
    from raysplit.cli.main import main as run

    for number in heard:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.exit(run())


def _stopped(number: int, frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(128 + number)


if __name__ == "__main__":
    from raysplit import own_code

    own_code.put_last()  # before anything else is imported
    main()
