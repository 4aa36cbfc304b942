"""The one exception type of this package."""


class TraceError(Exception):
    """A trace that cannot be written, read or asked for.

    The text is one line: what, where and what to do. Wrong arguments are ``ValueError`` and
    ``TypeError`` as elsewhere in Python.
    """
