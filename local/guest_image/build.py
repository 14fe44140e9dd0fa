#!/usr/bin/env python3
"""Builds novakube's tiny guest image; needs nothing but Python, apt, dpkg-deb and qemu-img.

Run as root: ``python local/guest_image/build.py --out DIR [--cache DIR]``.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also under PYTHONSAFEPATH

from novakube_guest.cli import main

sys.exit(main())
