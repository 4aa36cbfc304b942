"""The one exception type of this package."""


class TraceError(Exception):
    """A trace that cannot be written, read or asked for.

    The text is one line: what, where and what to do. Wrong arguments are ``ValueError`` and
    ``TypeError`` as elsewhere in Python.
    """


def said(error: BaseException) -> str:
    """An exception of the program's, in one line; its own text may fail or have many."""
    try:
        lines = [line.strip() for line in str(error).splitlines()]
    except Exception:
        lines = []
    return f"{type(error).__name__}: {'; '.join(line for line in lines if line)}"
