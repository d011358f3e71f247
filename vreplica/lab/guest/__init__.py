"""The guest of a lab VM: VMware Tools, files and programs, networks, an application."""
