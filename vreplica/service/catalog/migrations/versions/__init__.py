"""The migrations, one file a version, in the order of their numbers."""
