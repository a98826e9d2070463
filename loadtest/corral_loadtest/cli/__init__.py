"""The ``corral-loadtest`` command."""
