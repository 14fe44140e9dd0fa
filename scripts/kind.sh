#!/bin/sh
# `make kind`: the chart on a node of kind: helm install, helm test, a new agent, helm test again,
# helm upgrade, helm uninstall. What the lane kubelet shows beyond that needs nodes of the clone's.
# Without a Docker daemon or kind it says so, changes nothing and ends with 2.
set -eu
cd "$(dirname "$0")/.."
missing=
docker info >/dev/null 2>&1 ||
    missing="$missing
  - a Docker daemon that answers this user: docker info"
command -v kind >/dev/null ||
    missing="$missing
  - kind on PATH, 0.27 or newer: https://kind.sigs.k8s.io"
if [ -n "$missing" ]; then
    cat >&2 <<EOF
make kind needs:$missing
make cluster needs neither: it makes a cluster with kubelets of this clone's own.
EOF
    exit 2
fi

cluster=novakube-kind
node=$cluster-control-plane
system=novakube-system
config=.local/kind.kubeconfig
say() { printf '%s\n' "== $*"; }

say "programs and images"
scripts/bootstrap.sh cluster
PATH="$PWD/.local/bin:$PATH"
export PATH KUBECONFIG="$PWD/$config"
scripts/as-root.sh .venv/bin/python -m novakube_local images

say "cluster $cluster"
trap 'kind delete cluster --name "$cluster" --kubeconfig "$config"' EXIT
kind create cluster --name "$cluster" --kubeconfig "$config" --wait 180s
for component in operator api agent manage; do
    kind load image-archive --name "$cluster" ".local/container-images/$component.tar"
done

say "libvirt on its node"
docker exec "$node" sh -eu -c '
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils >/dev/null
    printf "%s\n" "user = \"root\"" "group = \"root\"" "security_driver = \"none\"" \
        "cgroup_controllers = []" "namespaces = []" "remember_owner = 0" >>/etc/libvirt/qemu.conf
    systemctl disable --now libvirt-guests.service || true
    systemctl restart libvirtd.service'
kubectl label node "$node" novakube.dev/hypervisor=true

say "helm install, helm test"
helm install novakube charts/novakube --namespace "$system" --create-namespace --wait --timeout 5m
kubectl wait --for=condition=Ready "hypervisor/$node" --timeout=120s
helm test novakube --namespace "$system" --timeout 8m

say "a new agent"
kubectl -n "$system" rollout restart daemonset/novakube-agent
kubectl -n "$system" rollout status daemonset/novakube-agent --timeout=180s
helm test novakube --namespace "$system" --timeout 8m

say "helm upgrade, helm uninstall"
kubectl apply --server-side --force-conflicts -f charts/novakube/crds
helm upgrade novakube charts/novakube --namespace "$system" --wait --timeout 5m
restarts=$(kubectl -n "$system" get pods -o 'jsonpath={..restartCount}')
[ -z "$(printf '%s' "$restarts" | tr -d '0 ')" ] || { say "pods were restarted: $restarts"; exit 1; }
helm uninstall novakube --namespace "$system" --wait --timeout 5m
say "the chart works in kind"
