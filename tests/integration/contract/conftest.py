from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.contract.samples import CRDS, STORED, minimal, schema_of
from tests.integration.contract.served import Api, served_contract


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A real API server with the generated CRDs and one smallest object ``base`` of each kind
    that has a status."""
    with served_contract(tmp_path_factory.mktemp("contract")) as api:
        for kind in CRDS:
            if "status" in schema_of(kind)["properties"]:
                code, answer = api.create(minimal(kind, "base", STORED), dry=False)
                assert code == 201, f"{kind}: {answer.get('message')}"
        yield api
