"""The supervisor's hands: making, watching and ending children."""
