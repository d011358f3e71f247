"""Clients of other makers, run by hand against the lab: each takes the path of its program."""
