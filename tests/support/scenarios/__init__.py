"""Scenarios of promises: run briefly by the tests, at length by the soak."""
