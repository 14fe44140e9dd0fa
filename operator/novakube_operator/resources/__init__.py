"""Controllers of the objects an Instance refers to."""
