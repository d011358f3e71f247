"""The catalog's schema, version by version (Alembic). `Catalog.open` brings a database up to it."""
