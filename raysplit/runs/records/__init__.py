"""The files of a run folder: which they are, and one reader for each, used by all commands.

Files: `files` (the names that this program writes), `damaged` (`Damaged`, and the bytes of a file that may be
anything), `kinds` (what each file holds), `read` (the readers), `environment` (versions and machine), `origin` (who has
written a folder) and `presence` (whether it is still the same folder). A reader checks what it reads, imports nothing
that a file names, and writes nothing; what it cannot read is `Damaged`.
"""

from raysplit.runs.records.damaged import Damaged as Damaged
