"""`novakube-local down`: the machine as it was before up, whatever became of up."""

from __future__ import annotations

import shutil

from novakube_local import kubelet, members
from novakube_local.layout import CLOUD, KEPT, Layout


def down(layout: Layout) -> None:
    """Ends nodes, then the control plane; removes the link and the state.

    Guests end with their nodes: this is the local cloud's own teardown. A second call, or one
    without an up before, finds nothing to do.

    Raises:
        LocalCloudError: something does not end or go away; calling again goes on from there.
    """
    state = layout.load()
    members.stop(state, [name for name in state.members if name != CLOUD])
    members.stop(state, [CLOUD])
    members.kill_marked(layout)
    kubelet.remove_cgroups(layout)
    members.delete_link(layout.link)
    for entry in layout.local.iterdir():
        if entry.name in KEPT or entry.name == "lock":
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (layout.local / "lock").unlink(missing_ok=True)
    if not any(layout.local.iterdir()):
        layout.local.rmdir()
