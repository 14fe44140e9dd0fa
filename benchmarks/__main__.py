"""``python -m benchmarks``, behind ``make bench``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from benchmarks import controlplane, scale
from benchmarks.results import ROOT, Result

WHAT = ("control-plane", "scale", "vm", "density", "cluster")
ALL = ("control-plane", "scale", "vm")
"""Without density, which has not been measured with its hundred domains yet, and without cluster,
which takes the clone for itself."""
QUICK = ("control-plane", "vm")
"""Scale is not worth a look without its minutes."""


def main() -> None:
    """Runs what was asked for, one after the other, and prints its figures."""
    arguments = _parser().parse_args()
    if arguments.quick:
        os.environ["QUICK"] = "1"
    started = time.monotonic()

    def say(what: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {what}", flush=True)

    everything = QUICK if arguments.quick else ALL
    for what in everything if arguments.what == "all" else (arguments.what,):
        show(run(what, arguments, say))


def run(what: str, arguments: argparse.Namespace, say: Callable[[str], None]) -> Result:
    """One benchmark."""
    quick = bool(arguments.quick)
    if what == "control-plane":
        settings = controlplane.Settings(
            arguments.rate or 10.0,
            arguments.count or (20 if quick else 300),
            arguments.nodes or (2 if quick else 8),
            quick,
        )
        return controlplane.run(settings, say)
    if what == "scale":
        return scale.run(arguments.count or (1000 if quick else 10000), say)
    # libvirt's and the local cloud's needs: only when asked for.
    from benchmarks import cluster, density, vm

    if what == "cluster":
        return cluster.run(say)
    if what == "density":
        return density.run(arguments.count or 100, say)
    return vm.run(arguments.count or (3 if quick else 20), quick, say)


def show(result: Result) -> None:
    """Writes the result and prints its figures."""
    path = result.write()
    print(f"\n{result.benchmark}: {path.relative_to(ROOT)}")
    for key, figure in result.figures.items():
        value = f"{figure.value:g} {figure.unit}".strip()
        target = f" (asked for: {figure.target})" if figure.target else ""
        print(f"  {key:32} {value:>14}{target}  {figure.note}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("what", nargs="?", default="all", choices=("all", *WHAT))
    parser.add_argument("--rate", type=float, help="creates a second (10)")
    parser.add_argument(
        "--count",
        type=int,
        help="creates (300; quick: 20), objects of scale (10000; 1000), pairs of vm (20; 3), "
        "domains of density (100)",
    )
    parser.add_argument("--nodes", type=int, help="simulated nodes (8; quick: 2)")
    parser.add_argument("--quick", action="store_true", help="small; results are not kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
