"""Fails over groups: several jobs that need each other, in their order."""
