"""The command `demo`: the main job on an embedded lab."""
