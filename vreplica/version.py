"""The version of vreplica, for the face of the library and for what is stored with its name."""

from typing import Final

__version__: Final = "0.1.0.dev0"
