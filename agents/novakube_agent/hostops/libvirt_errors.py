"""libvirt's errors -> ``novakube_kit.errors``, by code; nothing of libvirt gets past here.

Source of the codes: https://libvirt.org/html/libvirt-virterror.html
"""

from __future__ import annotations

import errno

import libvirt

from novakube_kit.errors import AlreadyExists, HostBusy, HostFailure, NotFound, NovakubeError

DISCONNECTED = frozenset(
    {libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_INVALID_CONN}
)
_ABSENT = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_DOMAIN_METADATA})
_BUSY = frozenset(
    {
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        libvirt.VIR_ERR_OPERATION_ABORTED,
        libvirt.VIR_ERR_RESOURCE_BUSY,
        libvirt.VIR_ERR_NO_MEMORY,
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    }
)
# Of system errors (with errno), those that pass by themselves.
_BUSY_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ETIMEDOUT,
    }
)
_FORBIDDEN = frozenset(
    {
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
        libvirt.VIR_ERR_ACCESS_DENIED,
        libvirt.VIR_ERR_OPERATION_DENIED,
    }
)
_REASONS = {
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: "ConfigUnsupported",
    libvirt.VIR_ERR_XML_ERROR: "DomainRefused",
    libvirt.VIR_ERR_XML_DETAIL: "DomainRefused",
    libvirt.VIR_ERR_XML_INVALID_SCHEMA: "DomainRefused",
    libvirt.VIR_ERR_OPERATION_INVALID: "OperationInvalid",
    libvirt.VIR_ERR_NO_SUPPORT: "NotSupportedByHypervisor",
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: "NotSupportedByHypervisor",
}
# The client library reports a broken connection as an internal error of the RPC layer.
_CLOSED_TEXTS = ("client socket is closed", "connection closed", "End of file while reading")


def code_of(error: libvirt.libvirtError) -> int:
    """The error's VIR_ERR_* code."""
    return int(error.get_error_code())


def is_disconnect(error: libvirt.libvirtError) -> bool:
    """The daemon is gone, rather than having refused."""
    if code_of(error) in DISCONNECTED:
        return True
    if error.get_error_domain() != libvirt.VIR_FROM_RPC:
        return False
    text = str(error.get_error_message())
    return code_of(error) == libvirt.VIR_ERR_SYSTEM_ERROR or any(
        closed in text for closed in _CLOSED_TEXTS
    )


def translate(error: libvirt.libvirtError, what: str) -> NovakubeError:
    """The error to raise instead.

    Args:
        error: what libvirt said.
        what: what was being done, as a clause: "start domain X".
    """
    text = str(error.get_error_message() or error).rstrip(". \n")
    code = code_of(error)
    sentence = f"libvirt could not {what}: {text}"
    if is_disconnect(error):
        return HostBusy(
            f"the connection to libvirt broke while trying to {what}: {text}",
            reason="HypervisorUnreachable",
        )
    if code in _ABSENT:
        return NotFound(sentence)
    if code in _FORBIDDEN:
        return HostFailure(
            f"{sentence}; give the agent's user the right to manage libvirt "
            "(group libvirt, or a polkit rule for org.libvirt.unix.manage)",
            reason="HypervisorForbidden",
        )
    if code in _BUSY or (code == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() in _BUSY_ERRNOS):
        return HostBusy(sentence)
    if code == libvirt.VIR_ERR_DOM_EXIST:
        return AlreadyExists(sentence)
    return HostFailure(sentence, reason=_REASONS.get(code))


def translate_open(error: libvirt.libvirtError, uri: str) -> NovakubeError:
    """The error of a connection that could not be opened; the sentence names what to do."""
    text = str(error.get_error_message() or error).rstrip(". \n")
    sentence = f"cannot connect to libvirt at {uri}: {text}"
    if code_of(error) in _FORBIDDEN or "Permission denied" in text:
        return HostFailure(
            f"{sentence}; give the agent's user the right to use the socket "
            "(group libvirt, or a polkit rule for org.libvirt.unix.manage)",
            reason="HypervisorForbidden",
        )
    if "No such file or directory" in text:
        advice = "install libvirt and start libvirtd or virtqemud on this node"
    elif "Connection refused" in text:
        advice = "the socket is there but nobody listens: start libvirtd or virtqemud"
    else:
        advice = "see libvirt's own log on this node"
    return HostBusy(f"{sentence}; {advice}", reason="HypervisorUnreachable")
