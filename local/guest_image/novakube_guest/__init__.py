"""Recipe of the tiny guest image. Depends on no other novakube package."""
