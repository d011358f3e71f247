"""The inventory of a lab site and the managers of its vCenter."""
