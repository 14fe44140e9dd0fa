"""History in SQL: what was, for people who ask later. Nothing here decides about a VM."""
