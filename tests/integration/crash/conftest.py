"""The crash matrix's cloud, for a sample of it."""

from tests.deep.crash.conftest import clean, cloud

__all__ = ["clean", "cloud"]
