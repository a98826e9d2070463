"""The highest rate at which the 99th percentile keeps a bound, and the settings that reach it."""
