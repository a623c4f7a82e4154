"""The files of a run folder: which they are, and one reader for each, used by all commands.

Files: `files` (the names that this program writes), `damaged` (`Damaged`, and the bytes of a file that may be
anything), `kinds` (what each file holds), `read` (the readers) and `origin` (who has written a folder). A reader checks
what it reads, imports nothing that a file names, and writes nothing; what it cannot read is `Damaged`.
"""

from raysplit.runs.records.damaged import Damaged as Damaged
