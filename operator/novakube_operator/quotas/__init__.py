"""Quotas: who may make what, written ahead where two might take the same room."""
