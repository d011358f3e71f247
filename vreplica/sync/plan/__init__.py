"""Plans the next run and finds what prevents it; changes nothing."""
