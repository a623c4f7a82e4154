"""The traffic of a run before it starts."""
