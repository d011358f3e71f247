"""Notifications: the service's events, and the receivers that they are sent to."""
