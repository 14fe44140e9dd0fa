"""Runtime shared by all processes of novakube."""
