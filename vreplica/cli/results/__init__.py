"""The vocabulary of `--json`: what each result holds, as types, and their JSON schema."""
