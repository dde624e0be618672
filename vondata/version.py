"""The version of the packages, importable without the API of `vondata`."""

__version__ = "0.1.0"
