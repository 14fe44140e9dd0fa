"""The contract: every kind of novakube.dev as pydantic models, and the CRD generator."""
