"""Load: what is sent, when, by which processes, and what they count."""
