"""corral: a multi-instance inference server for CPUs."""

__version__ = "0.1.0"
