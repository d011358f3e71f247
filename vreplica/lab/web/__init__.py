"""HTTPS of a lab site: the server, the datastore browser, a host's own pages."""
