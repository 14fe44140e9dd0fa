"""Instances: accepted, placed, followed, deleted; and the actions on them."""
