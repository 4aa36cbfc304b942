"""The package's version, which is also in every trace it writes (``Run.tool``)."""

__version__ = "0.1.0"
