"""Failovers of several jobs that need each other, in their order."""
