"""The setting ``data.by_owner``: every owner opens its own source at its own place."""
