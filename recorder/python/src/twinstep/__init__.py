"""Records a decode loop, step by step, into a ``.twin`` trace, and reads traces.

::

    import twinstep

    with twinstep.record("graph.twin", mode="graph") as r:
        r.watch("last_codes", lambda: engine.last_codes)
        for _ in range(20):
            with r.launch("forward"):
                engine.decode()
            r.step()

    trace = twinstep.open("graph.twin")
    trace.buffer("last_codes", step=2, point="forward.before")
"""

from .errors import TraceError
from .reader import Trace, Values
from .reader import open_trace as open
from .recording import Recording, record
from .version import __version__

__all__ = ["Recording", "Trace", "TraceError", "Values", "__version__", "open", "record"]
