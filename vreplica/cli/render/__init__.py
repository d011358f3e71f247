"""Results for people: text and tables for terminals, HTML pages."""
