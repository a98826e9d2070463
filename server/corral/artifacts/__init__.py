"""Artefacts: how they are built, stored and found again, and the cache of what was measured."""
