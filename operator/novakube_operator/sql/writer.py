"""Entries into the database, each once. Blocking: called from a thread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.orm import Session

from novakube_kit.clock import Clock
from novakube_kit.failpoints import failpoint
from novakube_operator.sql import schema
from novakube_operator.sql.engine import DatabaseUnavailable, unavailable
from novakube_operator.sql.entries import Entry, Key
from novakube_operator.sql.models import TABLES, Transition

ATTEMPTS = 3
"""For an entry that breaks a key: another writer may be committing the same one."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that this database will never take, and why."""

    entry: Entry
    why: str


class Writer:
    """The only code that writes history rows.

    Every method raises DatabaseUnavailable for whatever may pass: no answer, no schema, missing
    rights, a full disk.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Connects to nothing yet."""
        self._engine = engine
        self._clock = clock

    def ready(self) -> None:
        """Returns when the database answers and has this program's schema."""
        found, needed = schema.version(self._engine), schema.head()
        if found != needed:
            raise DatabaseUnavailable(
                f"the database's schema is {found or 'empty'}, this program needs {needed}: "
                "run novakube-manage db sync",
                reason="SchemaOutdated",
            )

    def missing(self, keys: Iterable[Key]) -> set[Key]:
        """Those of the keys that are not recorded yet."""
        wanted = set(keys)
        found = select(Transition.uid, Transition.transition).where(
            Transition.uid.in_({uid for uid, _ in wanted})
        )
        try:
            with Session(self._engine) as session:
                return wanted - {(uid, transition) for uid, transition in session.execute(found)}
        except DBAPIError as error:
            raise unavailable(error) from error

    def commit(self, batch: Sequence[Entry]) -> list[Refused]:
        """Commits a batch in its order; what is recorded already is passed over.

        Returns what the database refuses for its content; the rest is committed.
        """
        try:
            self._transaction(batch)
        except StatementError as error:
            _raise_passing(error)
            outcomes = [self._alone(one) for one in batch]
            return [refused for refused in outcomes if refused is not None]
        return []

    def _alone(self, one: Entry) -> Refused | None:
        """A row that the database refuses must not hold up the others."""
        why = ""
        for _ in range(ATTEMPTS):
            try:
                self._transaction([one])
            except StatementError as error:
                _raise_passing(error)
                why = str(error.orig or error)
            else:
                return None
        return Refused(one, why)

    def _transaction(self, batch: Sequence[Entry]) -> None:
        with failpoint("sql.commit"), Session(self._engine) as session, session.begin():
            keys = {one.key for one in batch}
            guards = select(Transition.uid, Transition.transition).where(
                Transition.uid.in_({uid for uid, _ in keys})
            )
            done = {(uid, transition) for uid, transition in session.execute(guards)}
            now = self._clock.now().replace(tzinfo=None)
            for one in batch:
                if one.key in done:
                    continue
                done.add(one.key)
                for table, values in one.rows:
                    session.merge(TABLES[table](**values))
                    session.flush()
                session.add(Transition(uid=one.uid, transition=one.transition, recorded_at=now))


def _raise_passing(error: StatementError) -> None:
    """Raises for everything a driver says but that this content is wrong."""
    if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
        raise unavailable(error) from error
