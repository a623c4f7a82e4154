"""Commands about the claims of papers."""
