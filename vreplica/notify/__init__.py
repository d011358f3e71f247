"""Events, and how they are sent: webhook, e-mail, hook."""
