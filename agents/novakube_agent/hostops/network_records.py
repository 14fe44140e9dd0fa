"""What this node's networks hold, on disk: one record per NIC, written before anything else.

Bridge, namespace and DHCP are derived from the records, so a crash at any step leaves enough
to finish or to undo. Layout, below ``<state>/networks/<network uid>/``: ``nics/<port
uid>.json``, ``hosts/<port uid>``, ``held/<address>``, dnsmasq's configuration, leases and pid
file. Blocking.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from novakube_agent.hostops.durable import remove_file, sync_directory, write_whole
from novakube_crds.v1alpha1.guest import GuestNic
from novakube_kit.errors import HostFailure
from novakube_kit.failpoints import failpoint


@dataclass(frozen=True, slots=True)
class NicRecord:
    """One NIC of a guest on this node."""

    guest_name: str
    hostname: str
    nic: GuestNic

    def text(self) -> str:
        """The record as JSON."""
        fields = {"guest": self.guest_name, "hostname": self.hostname, "nic": self.nic.wire()}
        return json.dumps(fields, sort_keys=True) + "\n"


class NetworkRecords:
    """The directory of all Networks."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def check_readable(self) -> None:
        """Refuses a state directory that dnsmasq, without rights, cannot read.

        Raises:
            HostFailure: a directory on the way is closed to others.
        """
        self._root.mkdir(mode=0o755, parents=True, exist_ok=True)
        for directory in (self._root, *self._root.parents):
            if not directory.stat().st_mode & 0o001:
                raise HostFailure(
                    f"{directory} must be passable for others (chmod o+x): dnsmasq reads "
                    f"{self._root} without rights",
                    reason="StateDirectoryClosed",
                )

    def directory(self, network_uid: str) -> Path:
        """Where one Network's files are."""
        return self._root / network_uid

    def networks(self) -> list[str]:
        """UIDs of Networks with a directory."""
        return sorted(path.name for path in self._root.iterdir()) if self._root.is_dir() else []

    def nics(self, network_uid: str) -> list[NicRecord]:
        """The Network's NICs, the latest written last."""
        folder = self.directory(network_uid) / "nics"
        if not folder.is_dir():
            return []
        files = sorted(folder.glob("[!.]*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [_read(path) for path in files]

    def left(self, network_uid: str, port_uid: str) -> bool:
        """Whether the Network has that NIC, or none at all: a removal that was not finished."""
        folder = self.directory(network_uid) / "nics"
        return (folder / f"{port_uid}.json").exists() or not any(folder.glob("[!.]*.json"))

    def put(self, record: NicRecord) -> None:
        """Remembers a NIC durably."""
        directory = self.directory(record.nic.network_uid)
        for folder in ("nics", "hosts"):
            (directory / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
        write_whole(directory / "nics" / f"{record.nic.port_uid}.json", record.text(), mode=0o600)

    def put_host(self, network_uid: str, port_uid: str, text: str) -> bool:
        """Writes or (empty text) removes the NIC's hosts file; True when that changed it."""
        path = self.directory(network_uid) / "hosts" / port_uid
        return write_whole(path, text) if text else remove_file(path)

    def forget(self, network_uid: str, port_uid: str) -> None:
        """Removes the NIC's record."""
        folder = self.directory(network_uid) / "nics"
        if remove_file(folder / f"{port_uid}.json"):
            sync_directory(folder)

    def forget_network(self, network_uid: str) -> None:
        """Removes the Network's directory with all in it; tolerant of absence."""
        with failpoint("host.directory.remove"):
            shutil.rmtree(self.directory(network_uid), ignore_errors=False, onerror=_ignore_absent)


def _ignore_absent(
    _function: object, _path: str, info: tuple[object, BaseException, object]
) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]


def _read(path: Path) -> NicRecord:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        nic = GuestNic.model_validate(fields["nic"])
        return NicRecord(fields["guest"], fields["hostname"], nic)
    except (ValueError, KeyError) as error:
        raise HostFailure(f"record {path} is damaged: {error}") from error
