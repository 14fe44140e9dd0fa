"""An entry of history: one transition of one Instance and the rows that tell it. Pure.

It is committed as one transaction under the key (uid, transition), or waits as a
HistoryRecord with the same content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import DateTime, String, Text

from novakube_crds.base import API_VERSION
from novakube_kit.clock import micro_timestamp, parse_timestamp
from novakube_kit.kube import Json
from novakube_operator.sql.models import TABLES

EntryType = Literal["Instance", "Action", "Event", "Lease", "Usage", "Migration"]
Key = tuple[str, str]
"""UID of the Instance and the transition."""
TRANSITION_MAX = 190
TEXT_MAX = 16_000
"""Characters of a text column: MySQL's TEXT holds 65535 bytes, four to a character at most."""
ROW_MAX = 65_536
"""Characters of ``HistoryRecord.spec.row``."""
SHORT_TEXT = 256


class UnreadableRecord(ValueError):
    """A HistoryRecord that this program cannot make rows of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, once."""

    type: EntryType
    uid: str
    """Of the Instance it speaks of."""
    transition: str
    """Which change of it: together with ``uid`` it is recorded once."""
    at: datetime
    rows: tuple[tuple[str, Mapping[str, Any]], ...] = field(hash=False)
    """Table and values, in the order to write them. They are merged into the row of their
    primary key: what they do not name keeps its value."""
    told_again: bool = False
    """Whether a living object can tell it again; then it need not wait as an object itself."""

    @property
    def key(self) -> Key:
        """The guard against writing it twice."""
        return self.uid, self.transition


def entry(
    type: EntryType,
    uid: str,
    transition: str,
    at: datetime,
    *rows: tuple[str, Mapping[str, Any]],
    told_again: bool = False,
) -> Entry:
    """An entry whose values fit every database: no NUL, strings cut to their columns."""
    fitting = tuple((table, _fit(table, values, TEXT_MAX)) for table, values in rows)
    return Entry(type, uid, transition[:TRANSITION_MAX], at, fitting, told_again)


def naive(moment: datetime | str | None) -> datetime | None:
    """A moment as the tables keep it: UTC without zone."""
    if not moment:
        return None
    aware = parse_timestamp(moment) if isinstance(moment, str) else moment
    return aware.replace(tzinfo=None)


def _fit(table: str, values: Mapping[str, Any], text_max: int) -> dict[str, Any]:
    columns = TABLES[table].__table__.columns
    return {name: _fit_one(columns[name].type, value, text_max) for name, value in values.items()}


def _fit_one(type: Any, value: Any, text_max: int) -> Any:
    if not isinstance(value, str):
        return value
    most = text_max if isinstance(type, Text) else type.length
    # PostgreSQL knows no NUL in a text.
    return value.replace("\0", "")[:most] if isinstance(type, String) else value


def record_name(key: Key) -> str:
    """Name of the HistoryRecord of an entry: the same entry never waits twice."""
    uid, transition = key
    return f"{uid}-{hashlib.sha256(transition.encode()).hexdigest()[:16]}"


def to_record(one: Entry) -> Json:
    """The HistoryRecord that holds an entry; long texts are cut until it is small enough."""
    spec = {
        "type": one.type,
        "uid": one.uid,
        "transition": one.transition,
        "time": micro_timestamp(one.at),
        "row": _text(one),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "HistoryRecord",
        "metadata": {"name": record_name(one.key)},
        "spec": spec,
    }


def _text(one: Entry) -> str:
    text = json.dumps(one.rows, default=_moment, ensure_ascii=False, separators=(",", ":"))
    if len(text) <= ROW_MAX:
        return text
    short = [(table, _fit(table, values, SHORT_TEXT)) for table, values in one.rows]
    text = json.dumps(short, default=_moment, ensure_ascii=False, separators=(",", ":"))
    while len(text) > ROW_MAX:
        short.pop()
        text = json.dumps(short, default=_moment, ensure_ascii=False, separators=(",", ":"))
    return text


def _moment(value: datetime) -> str:
    return value.isoformat()


def from_record(obj: Json) -> Entry:
    """The entry that a HistoryRecord holds.

    Raises:
        UnreadableRecord: not of this program's making.
    """
    spec = obj["spec"]
    try:
        rows = tuple((table, _parsed(table, values)) for table, values in json.loads(spec["row"]))
        at = parse_timestamp(spec["time"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableRecord(f"{type(error).__name__}: {error}") from error
    return Entry(spec["type"], spec["uid"], spec["transition"], at, rows)


def _parsed(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    columns = TABLES[table].__table__.columns
    return {
        name: datetime.fromisoformat(value)
        if value is not None and isinstance(columns[name].type, DateTime)
        else value
        for name, value in values.items()
    }
