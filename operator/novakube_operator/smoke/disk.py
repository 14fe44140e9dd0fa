"""A disk that boots without an operating system, served to the nodes by the process itself.

So a trial needs neither the Internet nor an image that somebody brought: the first sector writes
one line to the serial console and rests.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LINE = "novakube-smoke: the guest runs"
"""What the guest says on its console."""
PATH = "/smoke.raw"
SECTOR = 512
SIZE = 1024 * 1024
# Real mode, loaded at 0x7c00. Per byte of the text behind it: wait until COM1 can send, send.
_CODE = bytes.fromhex(
    "31c0 8ed8 fc"  # xor ax, ax; mov ds, ax; cld
    "be237c"  # mov si, text
    "ac 84c0 7412"  # next: lodsb; test al, al; jz rest
    "88c4 bafd03"  # mov ah, al; mov dx, COM1's line status
    "ec a820 74fb"  # wait: in al, dx; test al, 0x20; jz wait
    "88e0 baf803 ee"  # mov al, ah; mov dx, COM1; out dx, al
    "ebe9"  # jmp next
    "fb f4 ebfd"  # rest: sti; hlt; jmp to the hlt
)
_MAGIC = b"\x55\xaa"


def boot_disk() -> bytes:
    """The whole disk, raw."""
    sector = (_CODE + f"{LINE}\r\n".encode() + b"\0").ljust(SECTOR - len(_MAGIC), b"\0") + _MAGIC
    return sector.ljust(SIZE, b"\0")


def checksum() -> str:
    """As an Image's ``spec.source.checksum`` has it."""
    return f"sha256:{hashlib.sha256(boot_disk()).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The disk at its path; nothing else is here."""
        if self.path != PATH:
            self.send_error(404)
            return
        content = boot_disk()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """What is downloaded is told by the Instance's conditions."""


@contextlib.contextmanager
def served(address: str) -> Iterator[str]:
    """Serves the disk meanwhile; its URL.

    Args:
        address: of this host or pod, as the nodes reach it.
    """
    host = f"[{address}]" if ":" in address else address
    with ThreadingHTTPServer((address, 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}{PATH}"
        finally:
            server.shutdown()
            thread.join()
