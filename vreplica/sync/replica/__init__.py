"""The replica: reading it, making it, bringing it into shape, and what others did to it."""
