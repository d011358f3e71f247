"""The library in a process of its own: a crash of it fails one disk, and not the program."""
