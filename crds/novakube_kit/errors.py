"""Every error novakube's own code raises across a module boundary.

    NovakubeError
    |-- Retryable             try again later (``after_s``)
    |   |-- ApiUnavailable    the Kubernetes API did not answer, or answered 429/5xx
    |   `-- HostBusy          the node is doing something that excludes this
    |-- Terminal              no retry until the object changes
    |   |-- InvalidSpec
    |   |-- ImageRejected     checksum, format, size or safety
    |   `-- HostFailure       the hypervisor refused for good
    |-- NotFound              the object or thing is not there
    |-- Conflict              somebody else wrote first (409): read again, decide again
    |-- AlreadyExists         409 on create
    |-- Forbidden             401/403: the rights are missing; never retried in a hot loop
    `-- StateRolledBack       the API's store is older than what was seen of it: start anew

``reason`` is CamelCase and is used verbatim in conditions, Events and logs.
"""

from __future__ import annotations


class NovakubeError(Exception):
    """Base. The message is a sentence a user can read."""

    reason = "InternalError"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason

    @property
    def message(self) -> str:
        """The sentence."""
        return str(self.args[0])


class Retryable(NovakubeError):
    """May succeed later without any change of the object."""

    reason = "Retrying"

    def __init__(
        self, message: str, *, reason: str | None = None, after_s: float | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.after_s = after_s


class ApiUnavailable(Retryable):
    """The Kubernetes API did not answer or asked us to slow down."""

    reason = "ApiUnavailable"


class HostBusy(Retryable):
    """The node is busy with something that excludes this."""

    reason = "HostBusy"


class Terminal(NovakubeError):
    """Will not succeed until the object changes."""

    reason = "Failed"


class InvalidSpec(Terminal):
    """The object asks for something impossible."""

    reason = "InvalidSpec"


class ImageRejected(Terminal):
    """The image's bytes are not what was declared, or are not safe."""

    reason = "ImageRejected"


class HostFailure(Terminal):
    """The hypervisor or the host refused."""

    reason = "HostFailure"


class NotFound(NovakubeError):
    """It is not there."""

    reason = "NotFound"


class Conflict(NovakubeError):
    """It changed since it was read."""

    reason = "Conflict"


class AlreadyExists(Conflict):
    """An object of that name exists."""

    reason = "AlreadyExists"


class Forbidden(NovakubeError):
    """The caller lacks a right."""

    reason = "Forbidden"


class StateRolledBack(NovakubeError):
    """The API server's store was restored from a backup: everything held of it may be wrong."""

    reason = "StateRolledBack"
