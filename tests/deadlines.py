"""Every deadline a test waits for. Raising one needs a commit that names the cause."""

EVENT_S = 10.0
"""An API server's change seen by a watch, on a busy machine."""
READY_S = 60.0
"""etcd and API server started and serving."""
STOP_S = 20.0
"""A terminated process gone."""
DATABASE_S = 60.0
"""A database server's files made, or the server answering, on a busy machine."""
HISTORY_S = 60.0
"""History caught up after an outage: the pause between attempts grows to 30 s."""
MACHINE_S = 240.0
"""A real guest under TCG made, booted, stopped or gone, on two cores that others load as well."""
HELM_S = 240.0
"""helm with a hook's Job, whose pod starts a Python."""
PROMTOOL_S = 100.0
"""promtool over all alerts, on a busy machine: each case is evaluated minute by minute."""
CLUSTER_S = 2400.0
"""`make cluster` with its images built and imported, on two cores that others load as well."""
UP_S = 600.0
"""`make up` with its programs built and its packages installed."""
