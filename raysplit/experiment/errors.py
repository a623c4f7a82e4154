"""The error of a description that is wrong."""

from __future__ import annotations


class ConfigError(ValueError):
    """The configuration is wrong; the message names key, value, rule and way out."""


class CannotBeSimulated(ConfigError):
    """The method cannot be acted out with the sizes of tensors alone; the message says why, and the way out."""
