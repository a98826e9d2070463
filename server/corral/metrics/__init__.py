"""What /metrics says, and the HTTP server that says it."""
