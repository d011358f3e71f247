"""The migrations of the catalog's schema (Alembic); schema.py runs them."""
