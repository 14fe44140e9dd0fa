"""``novakube-local up|cluster|images|down|env|status|logs``, behind make."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from novakube_local import binaries, show
from novakube_local.chart import apply_chart
from novakube_local.cluster import ClusterUp
from novakube_local.down import down
from novakube_local.errors import LocalCloudError
from novakube_local.images import Images, table
from novakube_local.layout import Layout
from novakube_local.up import Up

HOW_TO = """
  eval "$(make -s env)"                    # kubectl and its plugin on PATH, KUBECONFIG set
  kubectl get instances                    # namespace demo
  kubectl novakube console-log hello
  kubectl describe instance hello
  make status ; make logs NAME=operator    # the cloud's own processes
  make down                                # leaves nothing behind
"""


HOW_TO_CLUSTER = """
  eval "$(make -s env)"                    # kubectl and helm on PATH, KUBECONFIG set
  helm install novakube charts/novakube --namespace novakube-system --create-namespace
  kubectl apply -f examples/first-instance.yaml
  kubectl get instances --all-namespaces
  make down                                # leaves nothing behind
"""


def main() -> None:
    """Entry point; 1 with the cause on standard error."""
    arguments = _parser().parse_args()
    try:
        _run(arguments, Layout())
    except (LocalCloudError, subprocess.SubprocessError, OSError) as error:
        sys.exit(f"novakube-local {arguments.verb}: {error}")


def _run(arguments: argparse.Namespace, layout: Layout) -> None:
    match arguments.verb:
        case "up":
            _up(arguments, layout)
        case "cluster":
            with layout.lock():
                ClusterUp(layout, arguments.nodes).run()
            print(HOW_TO_CLUSTER)
        case "images":
            with layout.lock():
                print(table(Images(layout, print).build()))
        case "down":
            with layout.lock():
                down(layout)
        case "build":
            _build(arguments.check)
        case _:
            _show(arguments, layout)


def _show(arguments: argparse.Namespace, layout: Layout) -> None:
    """The verbs that change nothing."""
    match arguments.verb:
        case "env":
            print(show.env(layout))
        case "status":
            print(show.status(layout))
        case "logs":
            show.logs(layout, arguments.name, arguments.lines, arguments.follow)


def _up(arguments: argparse.Namespace, layout: Layout) -> None:
    if arguments.kubeconfig is not None:
        if arguments.nodes:
            raise LocalCloudError(
                "local nodes reach nothing but their own cloud, so they cannot join another "
                "cluster: leave NODES out, and label that cluster's nodes "
                "novakube.dev/hypervisor=true"
            )
        apply_chart(arguments.kubeconfig, *arguments.set)
        print("the chart is applied; its pods need the image that values name (docs/install.md)")
        return
    with layout.lock():
        nodes = 1 if arguments.nodes is None else arguments.nodes
        Up(layout, nodes, arguments.driver, arguments.token_life).run()
    print(HOW_TO)


def _build(check: bool) -> None:
    missing = [name for name in binaries.PROGRAMS if binaries.find(name) is None]
    if check and missing:
        sys.exit(1)
    started = time.monotonic()
    for name in missing:
        binaries.require(name, lambda what: print(f"[{time.monotonic() - started:6.1f} s] {what}"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="novakube-local", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start the cloud, or what is missing of it")
    up.add_argument("--nodes", type=int, help="number of nodes (1)")
    up.add_argument("--driver", choices=("libvirt", "fake"), default="libvirt")
    up.add_argument("--kubeconfig", type=Path, help="install into this cluster instead")
    up.add_argument("--set", action="append", default=[], help="chart value for --kubeconfig")
    up.add_argument(
        "--token-life",
        type=int,
        default=int(os.environ.get("TOKEN_LIFE", "600")),
        help="seconds of life of a process's token, at least 600",
    )
    cluster = verbs.add_parser("cluster", help="start a cluster with kubelets, without novakube")
    cluster.add_argument("--nodes", type=int, default=1, help="number of nodes (1)")
    verbs.add_parser("images", help="build novakube's container images")
    verbs.add_parser("down", help="end the cloud and remove its traces")
    build = verbs.add_parser("build", help="build what is missing of the control plane's programs")
    build.add_argument("--check", action="store_true", help="only tell by exit code 1 if any is")
    verbs.add_parser("env", help="shell text for eval")
    verbs.add_parser("status", help="processes, nodes, instances")
    logs = verbs.add_parser("logs", help="a process's log")
    logs.add_argument("name", nargs="?", help="none: lists the logs")
    logs.add_argument("--lines", type=int, default=100)
    logs.add_argument("--follow", action="store_true")
    return parser


if __name__ == "__main__":
    main()
