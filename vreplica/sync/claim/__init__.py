"""Claims a replica for one writer at a time, wherever the writers run."""
