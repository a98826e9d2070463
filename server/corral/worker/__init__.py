"""A worker's process."""
