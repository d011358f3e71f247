"""Everything that changes a site, one kind of operation a file."""
