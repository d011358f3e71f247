"""Compares a recovery point with the source, and signs the report."""
