"""The exception for a wrong configuration."""

from __future__ import annotations


class ConfigError(ValueError):
    """Exception for a wrong configuration; the message has the key, the value, the rule and the way out."""


class CannotBeSimulated(ConfigError):
    """Exception for an algorithm that cannot run on the sizes of tensors alone; the message has the way out."""
