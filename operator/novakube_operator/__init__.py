"""novakube-operator: scheduler and conductor."""
