"""Self-contained HTML pages: one style, light and dark, and no other file."""
