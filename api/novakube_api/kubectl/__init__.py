"""Routes for people with kubectl."""
