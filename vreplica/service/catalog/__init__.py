"""The catalog: jobs, runs, points, failovers and movers in SQL, which is written only here."""
