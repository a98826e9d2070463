"""Helpers and scenarios that several tests share."""
