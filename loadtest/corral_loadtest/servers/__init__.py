"""Servers under test: started, watched, described; the baseline and the raw engine."""
