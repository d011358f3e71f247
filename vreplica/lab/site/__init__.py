"""One site of a lab: its dispatcher of calls, its state on disk, and its fault rules."""
