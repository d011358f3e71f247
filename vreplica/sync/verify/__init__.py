"""Compares a recovery point with the source, and signs what was found."""
