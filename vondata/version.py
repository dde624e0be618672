"""The version of the packages: read where it is recorded, without the API that `vondata` itself offers."""

__version__ = "0.1.0"
