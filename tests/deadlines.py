"""Every deadline a test waits for. Raising one needs a commit that names the cause."""

EVENT_S = 10.0
"""An API server's change seen by a watch, on a busy machine."""
READY_S = 60.0
"""etcd and API server started and serving."""
STOP_S = 20.0
"""A terminated process gone."""
