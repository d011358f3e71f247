"""Failover that keeps its word: states as data, a journal before every effect."""
