"""Reads, reshapes, seeds and reprotects the replica, and finds what others changed on it."""
