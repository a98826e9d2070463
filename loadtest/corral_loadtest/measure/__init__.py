"""A measurement: warm-up, measured part, summary; rising loads, and the floor beside it."""
