"""Datastores and disk files of a lab site."""
