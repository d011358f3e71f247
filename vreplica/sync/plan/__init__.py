"""Says what the next run would do and what is in its way; changes nothing."""
