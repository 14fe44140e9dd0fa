"""``novakube-manage smoke``: a small guest is made, seen to run, and deleted again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Iterator

from novakube_crds.base import SYSTEM_NAMESPACE
from novakube_kit.access import ClusterAccess
from novakube_kit.clock import SystemClock
from novakube_kit.errors import InvalidSpec, NotFound
from novakube_kit.kube import Json, KubePort
from novakube_kit.kube_aio import AioKube
from novakube_kit.resources import CONFIGMAPS
from novakube_operator.manage_verbs import Answer, Verb, argument, cluster_access
from novakube_operator.manage_vm import seconds
from novakube_operator.smoke import console, disk
from novakube_operator.smoke.objects import NAME, Wanted
from novakube_operator.smoke.trial import Console, Trial

ENDPOINTS = "novakube-endpoints"
TIMEOUT_S = 180.0
CIDR = "192.168.255.0/28"
KERNEL = "Linux version"


def _smoke(args: Namespace) -> Answer:
    return asyncio.run(_run(args))


async def _run(args: Namespace) -> Answer:
    access = cluster_access(args)
    namespace = args.namespace or access.namespace
    with _image(args) as (image, text):
        wanted = Wanted(args.flavor, image, args.cidr)
        async with AioKube(access, user_agent="novakube-manage") as kube:
            trial = Trial(kube, SystemClock(), _say, namespace, wanted, args.timeout)
            seen = await trial.run(_console(kube, access, namespace), text)
    unread = "" if seen["console"] else "; its console was not read"
    return Answer(
        f"a guest ran on {seen['node']} after {seen['runningSeconds']} s and is gone again{unread}",
        seen,
    )


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def _image(args: Namespace) -> Iterator[tuple[Json, str]]:
    """``spec`` of the Image, and what its guest shall write on its console."""
    if args.image_url:
        source = {"url": args.image_url}
        if args.image_checksum:
            source["checksum"] = args.image_checksum
        spec = {"diskFormat": args.disk_format, "source": source}
        yield spec, args.console_text or KERNEL
        return
    if not args.serve_at:
        raise InvalidSpec(
            "whence the image: --image-url URL; or --serve-at ADDRESS, an address of this host "
            "that the nodes reach, and a disk that only says it runs is served there"
        )
    with disk.served(args.serve_at) as url:
        source = {"url": url, "checksum": disk.checksum()}
        yield {"diskFormat": "raw", "source": source}, args.console_text or disk.LINE


def _console(kube: KubePort, access: ClusterAccess, namespace: str) -> Console:
    async def read() -> str:
        if access.token is None:
            raise NotFound("it takes a bearer token, and this kubeconfig has none")
        found = await kube.get(CONFIGMAPS, ENDPOINTS, SYSTEM_NAMESPACE)
        token = await access.token.token()
        where = (namespace, NAME)
        return await asyncio.to_thread(
            console.read, found.get("data", {}), token, where, os.environ
        )

    return read


VERBS = (
    Verb("smoke", "", "make a small guest, see it run, delete it; exit code 1 when it does not",
         _smoke,
         (argument("--namespace", "-n", default="", metavar="NAMESPACE",
                   help="default: the pod's or the kubeconfig's"),
          argument("--flavor", default="", metavar="NAME",
                   help="default: one is made, of 128 MiB, and deleted"),
          argument("--image-url", default="", metavar="URL", help="of a disk that boots"),
          argument("--image-checksum", default="", metavar="sha256:HEX"),
          argument("--disk-format", default="qcow2", help="of --image-url (default: qcow2)"),
          argument("--serve-at", default=os.environ.get("NOVAKUBE_POD_IP", ""), metavar="ADDRESS",
                   help="without --image-url: serve a disk there that only says it runs"),
          argument("--console-text", default="", metavar="TEXT",
                   help="to be found on the console (default: a kernel's first line)"),
          argument("--cidr", default=CIDR, metavar="CIDR",
                   help="of the guest's network; empty: no NIC (default: %(default)s)"),
          argument("--timeout", type=seconds, default=TIMEOUT_S, metavar="SECONDS",
                   help="until the guest has spoken (default: %(default)g)"))),
)  # fmt: skip
