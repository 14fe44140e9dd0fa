"""The kinds of novakube.dev/v1alpha1, a module each; all of them together are in ``kinds``.

So a process that needs three of them has not the models of twenty in memory.
"""
