"""The process that speaks to clients."""
