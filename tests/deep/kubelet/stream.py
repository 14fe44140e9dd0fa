"""A TCP stream to a guest's ssh server that is kept busy: run in the guest's network namespace.

``stream.py ADDRESS``. Says ``open`` after the server's banner. Then it sends its own banner, a
byte a second, and has the kernel probe the peer as often; what nobody acknowledges for ten
seconds ends it. When its input ends it completes the line: only over the same stream the
server's key exchange can come back, and it says ``alive``.
"""

from __future__ import annotations

import select
import socket
import sys

SSH = 22
UNANSWERED_S = 10
PATIENCE_S = 60
BANNER = b"SSH-2.0-stream"
LONGEST = 240
"""Bytes of a banner that a server reads: so many seconds the stream may last."""


def line(stream: socket.socket) -> bytes:
    """The server's banner."""
    found = b""
    while not found.endswith(b"\n"):
        byte = stream.recv(1)
        if not byte:
            sys.exit("the server closed the stream before its banner")
        found += byte
    return found


def main() -> None:
    """Runs until its input ends."""
    with socket.create_connection((sys.argv[1], SSH), PATIENCE_S) as stream:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_NODELAY, 1),
            (socket.TCP_KEEPIDLE, 1),
            (socket.TCP_KEEPINTVL, 1),
            (socket.TCP_USER_TIMEOUT, UNANSWERED_S * 1000),
        ):
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
        if not line(stream).startswith(b"SSH-2.0-"):
            sys.exit("that is no ssh server")
        print("open", flush=True)
        rest = iter(BANNER.ljust(LONGEST, b"x"))
        while not select.select([sys.stdin], [], [], 1)[0]:
            stream.sendall(bytes([next(rest)]))
        stream.sendall(bytes(rest) + b"\r\n")
        if not stream.recv(1):
            sys.exit("the server closed the stream")
        print("alive", flush=True)


if __name__ == "__main__":
    main()
