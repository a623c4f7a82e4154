"""Log lines of a place, labeled with the names of the place and of the running party.

Ray stores the standard error of a place on the place's machine, in the logs of the session.
"""

from __future__ import annotations

import logging

from raysplit.cluster.contract import COORDINATOR, current_party
from raysplit.registry import printable

FORMAT = "%(asctime)s %(levelname)s [%(place)s %(party)s] %(name)s: %(message)s"


class Labels(logging.Filter):
    """A filter that adds the names of the place and of the running party to every record."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place

    def filter(self, record: logging.LogRecord) -> bool:
        party = current_party.get()
        record.place = self._place
        record.party = "-" if party == COORDINATOR else party  # the place itself
        return True


class Lines(logging.Formatter):
    """A formatter of `printable` lines: names and errors in them may be those of others."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def label_logs(place: str) -> None:
    """Write the log of raysplit in this process to standard error, with a line per owner and round."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(FORMAT))
    handler.addFilter(Labels(place))
    logger = logging.getLogger("raysplit")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
