"""All kinds of novakube.dev/v1alpha1."""

from __future__ import annotations

from novakube_crds.kind import Kind
from novakube_crds.v1alpha1.addressslice import ADDRESSSLICE
from novakube_crds.v1alpha1.aggregate import AGGREGATE
from novakube_crds.v1alpha1.flavor import FLAVOR
from novakube_crds.v1alpha1.floatingip import FLOATINGIP
from novakube_crds.v1alpha1.guest import GUEST
from novakube_crds.v1alpha1.historyrecord import HISTORYRECORD
from novakube_crds.v1alpha1.hypervisor import HYPERVISOR
from novakube_crds.v1alpha1.hypervisorreport import HYPERVISORREPORT
from novakube_crds.v1alpha1.image import IMAGE
from novakube_crds.v1alpha1.instance import INSTANCE
from novakube_crds.v1alpha1.instanceaction import INSTANCEACTION
from novakube_crds.v1alpha1.ipaddress import IPADDRESS
from novakube_crds.v1alpha1.keypair import KEYPAIR
from novakube_crds.v1alpha1.network import NETWORK
from novakube_crds.v1alpha1.port import PORT
from novakube_crds.v1alpha1.quota import QUOTA
from novakube_crds.v1alpha1.quotaclass import QUOTACLASS
from novakube_crds.v1alpha1.router import ROUTER
from novakube_crds.v1alpha1.securitygroup import SECURITYGROUP
from novakube_crds.v1alpha1.servergroup import SERVERGROUP
from novakube_crds.v1alpha1.subnet import SUBNET

KINDS: tuple[Kind, ...] = (
    FLAVOR,
    KEYPAIR,
    IMAGE,
    NETWORK,
    SUBNET,
    ROUTER,
    SECURITYGROUP,
    PORT,
    FLOATINGIP,
    SERVERGROUP,
    QUOTA,
    QUOTACLASS,
    INSTANCE,
    INSTANCEACTION,
    HYPERVISOR,
    AGGREGATE,
    GUEST,
    HYPERVISORREPORT,
    IPADDRESS,
    ADDRESSSLICE,
    HISTORYRECORD,
)
"""In the order of the reference: users' kinds first, internal ones last."""
