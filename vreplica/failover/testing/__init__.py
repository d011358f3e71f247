"""Test failovers: a recovery point booted as a throw-away VM on an isolated network."""
