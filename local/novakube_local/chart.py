"""The chart: rendered by helm, applied by kubectl. helm itself keeps no state in a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

from novakube_local import binaries
from novakube_local.errors import LocalCloudError
from novakube_local.kubectl import run_kubectl
from novakube_local.services import SYSTEM

CHART = binaries.ROOT / "charts" / "novakube"
KUBERNETES = "1.34.0"
"""Version that the chart is rendered for; the control plane is of this release."""
HELM_S = 60


def render_chart(*settings: str, crds: bool = False, hooks: bool = True) -> str:
    """The chart's manifests.

    Args:
        settings: values, each as ``name=value``.
        crds: the CRDs too, first.
        hooks: what helm itself makes at its own moments too: the test, the uninstall guard.

    Raises:
        LocalCloudError: with what helm said.
    """
    options = [option for setting in settings for option in ("--set", setting)]
    options += ["--include-crds"] if crds else []
    options += [] if hooks else ["--no-hooks"]
    # Without the cluster's version helm takes one that it was built with.
    done = subprocess.run(
        [str(binaries.require("helm")), "template", "novakube", str(CHART),
         "--namespace", SYSTEM, "--kube-version", KUBERNETES, *options],
        capture_output=True, text=True, timeout=HELM_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise LocalCloudError(f"helm template: {done.stderr.strip()}")
    return done.stdout


def apply_chart(kubeconfig: Path, *settings: str) -> None:
    """Renders the chart and applies it, CRDs first.

    Raises:
        LocalCloudError: with what helm or kubectl said.
    """
    kubectl = binaries.require("kubectl")
    rendered = render_chart(*settings, hooks=False)
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=novakube-local")
    run_kubectl(kubectl, kubeconfig, (*apply, "-f", str(CHART / "crds")))
    established = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    run_kubectl(kubectl, kubeconfig, established)
    namespace = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SYSTEM}}}\n"
    run_kubectl(kubectl, kubeconfig, (*apply, "-f", "-"), stdin=namespace)
    run_kubectl(kubectl, kubeconfig, (*apply, "-f", "-"), stdin=rendered)
