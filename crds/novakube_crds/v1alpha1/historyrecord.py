"""HistoryRecord: a line of history that waits for the SQL database.

In the system namespace; deleted once it is copied.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from novakube_crds.base import ApiModel, Rule, Timestamp, Uuid, rules
from novakube_crds.kind import Column, Kind


class HistoryRecordSpec(ApiModel):
    """One row, keyed by (uid, transition), so it is copied once."""

    model_config = rules(Rule("self == oldSelf", "spec is immutable"))

    type: Literal["Instance", "Action", "Event", "Lease", "Usage", "Migration"]
    """Table it belongs to."""
    uid: Uuid
    """Of the object it speaks of."""
    transition: Annotated[str, Field(min_length=1, max_length=255)]
    """Which change of it."""
    time: Timestamp
    row: Annotated[str, Field(max_length=65536)]
    """The row as JSON."""


HISTORYRECORD = Kind(
    kind="HistoryRecord",
    plural="historyrecords",
    spec=HistoryRecordSpec,
    status=None,
    description="A line of history that waits for the database (internal).",
    internal=True,
    columns=(
        Column("Type", ".spec.type"),
        Column("Transition", ".spec.transition"),
        Column("Time", ".spec.time", "date"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    ),
    selectable=(".spec.type", ".spec.uid"),
)
