"""Changes a site, one kind of operation a file."""
