"""What corral's processes say to one another, and share."""
