"""The connection to a vCenter or host: SOAP, certificate, faults, tasks, property collector."""
