"""Engines, one folder each, behind five methods."""
