"""Guest customization (re-IP): the name and addresses of a guest at the other site."""
