"""The vSphere Web Services API of a lab site: SOAP, properties, sessions, tasks, events."""
