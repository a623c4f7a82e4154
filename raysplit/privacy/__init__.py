"""Privacy: what leaves an owner, what it tells, and what limits it."""
