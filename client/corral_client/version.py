"""The client's version: that of the distribution it comes with."""

__version__ = "0.1.0"
