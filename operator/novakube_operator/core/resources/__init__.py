"""What the operator says of the objects an Instance refers to: facts in, status out."""
