"""The source of a run: its snapshot, its change tracking, and vMotion held off meanwhile."""
