"""The version of this library, which the files it writes name."""

__version__ = "0.3.0"
