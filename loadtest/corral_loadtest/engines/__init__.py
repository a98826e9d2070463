"""Every engine of corral: served against raw, and how long it takes to start."""
