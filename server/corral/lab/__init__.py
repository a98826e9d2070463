"""Measurements beside the server: the ladder, the raw engine, the overflow fix."""
