"""Claims of the papers: protocols that were fixed before their runs, and verdicts on what the runs say.

Files: `protocol` (what is run, as a YAML file in ``protocols/``), `claim` (a claim and the rule that decides it),
`records` (one line for each finished run), `running` (what fits a budget, most telling runs first), `verdict` (what the
records say), `computed` (claims that need no training), `standing` (the verdicts as of this version), `page` (tables
and the HTML page). Nothing is exported here, because these modules load torch.
"""
