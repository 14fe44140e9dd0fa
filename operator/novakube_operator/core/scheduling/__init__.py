"""Choosing a node: filters say no with a reason, weighers order the rest. Pure."""
