"""Model files timed against each other."""
