"""Decides when each job runs: schedules and the planner, without a clock or I/O of their own."""
