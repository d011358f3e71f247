"""The vSphere Web Services API of a lab site: SOAP, property collector, sessions, tasks, events."""
