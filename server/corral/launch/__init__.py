"""How any child process starts."""
