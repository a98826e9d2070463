"""A result for people: terminal, page, plots."""
