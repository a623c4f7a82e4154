"""Strategies of hypothesis for what users write: configurations, tables, data files."""
