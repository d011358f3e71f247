"""The catalog: runs, points, failovers and movers, kept in SQL. SQL is written here only."""
