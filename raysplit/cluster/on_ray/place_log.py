"""Log lines of a place, labelled with its name and that of the party at work.

Ray keeps what a place writes to standard error on the place's own machine, in the logs of the session.
"""

from __future__ import annotations

import logging

from raysplit.cluster.contract import COORDINATOR, current_party

FORMAT = "%(asctime)s %(levelname)s [%(place)s %(party)s] %(name)s: %(message)s"


class Labels(logging.Filter):
    """Gives every record the names of the place and of the party at work."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place

    def filter(self, record: logging.LogRecord) -> bool:
        party = current_party.get()
        record.place = self._place
        record.party = "-" if party == COORDINATOR else party  # the place itself
        return True


def label_logs(place: str) -> None:
    """Have this process log what raysplit does in it, a line per owner and round, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(Labels(place))
    logger = logging.getLogger("raysplit")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
