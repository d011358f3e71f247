"""What takes a failover's reports where a test does not look at them."""


def quiet(text: str) -> None:
    """Say nothing."""
