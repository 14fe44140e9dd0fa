"""novakube-manage: what an administrator does from a shell.

Exit codes: 0 done, 1 refused or failed (one line on stderr says why), 2 wrong command line.
Verbs live in modules of their own; one line of ``VERBS`` hooks a module in.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from novakube_kit.errors import NovakubeError
from novakube_kit.version import installed_version
from novakube_operator import (
    manage_adopt,
    manage_db,
    manage_lists,
    manage_quota,
    manage_service,
    manage_smoke,
    manage_uninstall,
    manage_vm,
)
from novakube_operator.manage_verbs import Verb, shown
from novakube_operator.sql.engine import DEFAULT_URL

VERBS: tuple[Verb, ...] = (
    *manage_db.VERBS,
    *manage_service.VERBS,
    *manage_lists.VERBS,
    *manage_quota.VERBS,
    *manage_vm.VERBS,
    *manage_adopt.VERBS,
    *manage_uninstall.VERBS,
    *manage_smoke.VERBS,
)  # fmt: skip
GROUPS = {
    "db": "the history database",
    "flavor": "flavors",
    "host": "nodes that run instances",
    "quota": "limits of projects",
    "project": "projects and their namespaces",
    "service": "the agents of the nodes",
    "vm": "instances and what is left of them on nodes",
}


def _common(*, top: bool) -> argparse.ArgumentParser:
    """Options that may stand before the group or after the verb; the later one holds."""
    common = argparse.ArgumentParser(add_help=False)

    def option(flag: str, default: Any, **more: Any) -> None:
        common.add_argument(flag, default=default if top else argparse.SUPPRESS, **more)

    option("--json", False, action="store_true", help="print JSON")
    option("--kubeconfig", None, help="default: KUBECONFIG, else ~/.kube/config")
    option("--context", None, help="of the kubeconfig; default: its current one")
    url = os.environ.get("NOVAKUBE_DATABASE_URL") or DEFAULT_URL
    option("--database-url", url, help=f"default: NOVAKUBE_DATABASE_URL, else {DEFAULT_URL}")
    return common


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="novakube-manage", description="Administer novakube.", parents=[_common(top=True)]
    )
    top.add_argument(
        "--version", action="version", version=f"novakube-manage {installed_version()}"
    )
    groups = top.add_subparsers(dest="group", required=True, metavar="GROUP")
    common, of_group = _common(top=False), {}
    for verb in VERBS:
        about: dict[str, Any] = {"description": verb.help, "parents": [common]}
        if not verb.name:
            one = groups.add_parser(verb.group, help=verb.help, **about)
        else:
            if verb.group not in of_group:
                group = groups.add_parser(verb.group, help=GROUPS[verb.group])
                of_group[verb.group] = group.add_subparsers(
                    dest="verb", required=True, metavar="VERB"
                )
            one = of_group[verb.group].add_parser(
                verb.name, help=verb.help, aliases=verb.aliases, **about
            )
        for flags, options in verb.arguments:
            one.add_argument(*flags, **options)
        one.set_defaults(run=verb.run)
    return top


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one verb."""
    args = parser().parse_args(argv)
    try:
        answer = args.run(args)
    except NovakubeError as error:
        print(f"novakube-manage: {error.message}", file=sys.stderr)
        sys.exit(1)
    print(shown(answer, args.json))


if __name__ == "__main__":
    main()
