"""The commands of the service: `serve`, and what it did and will do next."""
