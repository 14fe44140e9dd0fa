"""Real database servers as private processes: a data directory, a loopback port, no service.

Started as the user that Debian's package made for the server when the tests run as root, for
the servers refuse root. A missing program is a failure.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError

from tests.deadlines import DATABASE_S, STOP_S
from tests.ports import free_port
from tests.waiting import wait_until_sync

USER = "novakube"


def program(name: str, *folders: Path) -> str:
    """The server's program; a missing one is a failure with the way out."""
    places = [*map(str, folders), os.environ["PATH"], "/usr/sbin", "/usr/local/bin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise AssertionError(f"{name} is missing: install the packages of scripts/packages.txt")
    return found


class Server:
    """A database server; its data outlives ``stop``."""

    drivername: str
    maintenance: str
    """A database that is always there."""
    runs_as: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = self.runs_as if os.geteuid() == 0 else None
        directory.chmod(0o755)
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(directory, entry.pw_uid, entry.pw_gid)
        self._run(self._initialise())

    def _initialise(self) -> Sequence[str]:
        raise NotImplementedError

    def _serve(self) -> Sequence[str]:
        raise NotImplementedError

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.directory, user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
            )  # fmt: skip

    def _run(self, command: Sequence[str]) -> None:
        assert self._spawn(command).wait(DATABASE_S) == 0, self.log()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def start(self) -> None:
        self._process = self._spawn(self._serve())
        wait_until_sync(self._answers, f"{type(self).__name__} answers", DATABASE_S)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends it, by default as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(STOP_S)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        engine = create_engine(self._url(self.maintenance))
        try:
            with engine.connect():
                return True
        except OperationalError:
            return False
        finally:
            engine.dispose()

    def _url(self, database: str) -> URL:
        return URL.create(
            self.drivername, USER, USER, host="127.0.0.1", port=self.port, database=database
        )

    def url(self, database: str) -> str:
        """As NOVAKUBE_DATABASE_URL takes it."""
        return self._url(database).render_as_string(hide_password=False)

    def administer(self, statement: str) -> None:
        engine = create_engine(self._url(self.maintenance), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


class PostgreSQL(Server):
    drivername = "postgresql+psycopg"
    maintenance = "postgres"
    runs_as = "postgres"

    def _program(self, name: str) -> str:
        return program(name, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))

    def _initialise(self) -> Sequence[str]:
        return (
            self._program("initdb"), "--pgdata", str(self.data), "--username", USER,
            "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def _serve(self) -> Sequence[str]:
        return (
            self._program("postgres"), "-D", str(self.data), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.directory}",
            "-c", "fsync=off",
        )  # fmt: skip

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGQUIT is the server's own crash: its children go with it, and it recovers."""
        super().stop(signal.SIGQUIT if how == signal.SIGKILL else how)


class MariaDB(Server):
    drivername = "mysql+pymysql"
    maintenance = "mysql"
    runs_as = "mysql"

    def _initialise(self) -> Sequence[str]:
        return (
            program("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}",
            "--auth-root-authentication-method=normal", "--skip-test-db",
        )  # fmt: skip

    def _serve(self) -> Sequence[str]:
        grants = self.directory / "grants.sql"
        grants.write_text(
            f"CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{USER}';\n"
            f"GRANT ALL ON *.* TO {USER}@'%';\n"
        )
        grants.chmod(0o644)
        return (
            program("mariadbd"), "--no-defaults", f"--datadir={self.data}",
            "--bind-address=127.0.0.1", f"--port={self.port}", "--skip-name-resolve",
            f"--socket={self.directory / 'socket'}", f"--pid-file={self.directory / 'pid'}",
            f"--init-file={grants}", "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip


@contextmanager
def running(kind: type[Server]) -> Iterator[Server]:
    """A server of a kind for as long as the block lasts."""
    # Not pytest's directory: that one is closed to the server's own user.
    directory = Path(tempfile.mkdtemp(prefix="novakube-sql-"))
    server: Server | None = None
    try:
        server = kind(directory)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
