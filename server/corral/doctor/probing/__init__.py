"""Short measurements of what the machine really does, a few seconds in all."""
