"""Migrations, up and down, and what they make."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, inspect

from novakube_kit.errors import InvalidSpec
from novakube_operator.sql import schema
from novakube_operator.sql.models import Base


def test_the_migrations_make_the_models(engine: Engine) -> None:
    schema.sync(engine)
    assert schema.version(engine) == schema.head()
    found = inspect(engine)
    for table in Base.metadata.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {c.name: bool(c.nullable) for c in table.columns}, table.name
        assert {i["name"] for i in found.get_indexes(table.name)} == {i.name for i in table.indexes}
        keys = found.get_pk_constraint(table.name)["constrained_columns"]
        assert keys == [c.name for c in table.primary_key.columns], table.name
        types = {column["name"]: column["type"] for column in found.get_columns(table.name)}
        for column in table.columns:
            wanted = getattr(column.type, "length", None)
            assert wanted is None or types[column.name].length == wanted, column


def test_up_and_down_step_by_step(engine: Engine) -> None:
    schema.sync(engine, "0001")
    first = set(inspect(engine).get_table_names())
    schema.sync(engine)
    everything = set(inspect(engine).get_table_names())
    assert first < everything
    schema.revert(engine, "0001")
    assert set(inspect(engine).get_table_names()) == first
    schema.revert(engine, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    assert schema.version(engine) is None
    schema.sync(engine)
    assert set(inspect(engine).get_table_names()) == everything


def test_an_unknown_revision_is_named(engine: Engine) -> None:
    with pytest.raises(InvalidSpec, match="schema revision nonsense"):
        schema.sync(engine, "nonsense")
