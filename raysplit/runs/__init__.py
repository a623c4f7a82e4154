"""Records of runs: what a run writes, and what reads it again.

Files: `folder` (the run folder), `remote` and `storage` (run folders at URIs), `rows` (metrics and traffic so far),
`callback` (`Callback`), `result` (`Result`), `metric` (the primary metric and targets), `listing` (a run in a list),
`report` and `compare` (runs side by side), `report_page` (a Markdown page) and `ray_metrics` (metrics for Ray's
dashboard). `records` has the readers of the files.

Programs take `raysplit.Callback`, `raysplit.Result`, `raysplit.load` and `raysplit.compare`. Nothing is exported here,
because `folder` loads pyarrow.
"""
