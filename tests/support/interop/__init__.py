"""Other people's clients against a running server: what `make interop` installs and runs."""
