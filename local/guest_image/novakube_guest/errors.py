"""The one error of the recipe."""


class BuildError(Exception):
    """The image cannot be built; the message says what to do about it."""
