"""What of this machine keeps the workers slow: checks of what it shows, each with its remedy."""
