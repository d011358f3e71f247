"""The inventory of a lab site, the managers of its vCenter, and how a site is built."""
