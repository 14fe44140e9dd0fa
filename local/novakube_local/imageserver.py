"""Serves one folder by HTTP: the guest image, to nodes that reach nothing else."""

from __future__ import annotations

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


def main() -> None:
    """``python -m novakube_local.imageserver ADDRESS PORT FOLDER``, until ended."""
    address, port, folder = sys.argv[1:]
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer((address, int(port)), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
