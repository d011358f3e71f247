"""The tables and keys of the job file, one file a table, as pydantic models."""
