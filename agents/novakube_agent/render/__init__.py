"""Pure renders: models in, text out."""
