"""The HTTPS endpoints of a lab: SOAP, the files of datastores, file transfers with guests."""
