"""Jobs: what is to be replicated, where to, and by which rules, as a file says it."""

from vreplica.config.jobfile import Config, find, load

__all__ = ["Config", "find", "load"]
