"""Commands on privacy."""
