"""Makes the recipe importable; it is a script's package, on no path of ours."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "local" / "guest_image"))
