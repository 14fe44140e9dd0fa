"""The cloud of the crash lane."""

from tests.deep.crash.conftest import cloud

__all__ = ["cloud"]
