"""Snapshots and tracks the source of a run, and disables its Storage vMotion meanwhile."""
