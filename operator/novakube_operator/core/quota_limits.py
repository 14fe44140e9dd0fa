"""Limits on one Instance by itself: metadata, files, its server group. Pure."""

from __future__ import annotations

import base64
from typing import Any

from novakube_crds.v1alpha1.quota import QuotaLimits
from novakube_kit.objects import Object
from novakube_operator.core.quota import WORDS, exceeds

AnyObject = Object[Any, Any]


def per_instance(obj: AnyObject, limits: QuotaLimits, members_ahead: int) -> str | None:
    """What of an Instance's own is beyond a limit, as a sentence; None: nothing.

    ``members_ahead``: Instances of its server group that come before it.
    """
    spec = obj.spec
    contents = [len(base64.b64decode(item.content)) for item in spec.files]
    paths = [len(item.path.encode()) for item in spec.files]
    needs = {
        "metadata_items": (len(spec.metadata), 0),
        "injected_files": (len(spec.files), 0),
        "injected_file_content_bytes": (max(contents, default=0), 0),
        "injected_file_path_bytes": (max(paths, default=0), 0),
        "server_group_members": (int("group" in spec.scheduler_hints), members_ahead),
    }
    found = []
    for dimension, (need, used) in needs.items():
        limit = getattr(limits, dimension)
        if exceeds(need, used, limit):
            use = f"used {used} of {limit}" if used else f"the limit is {limit}"
            found.append(f"need {need} {WORDS[dimension]}, {use}")
    return f"quota exceeded: {'; '.join(found)} per object" if found else None
