"""The job file: reads it, checks it, and makes the jobs that `vreplica.run` takes."""

from vreplica.config.jobfile import Config, find, load

__all__ = ["Config", "find", "load"]
