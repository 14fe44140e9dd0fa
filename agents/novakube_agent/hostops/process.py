"""Running programs: argument lists only, deadlines always, limits where input is foreign.

No shell, a fixed locale (messages are parsed), stdin closed. The whole process group dies
with the deadline. Failures are ``novakube_kit.errors`` whose message holds the program's own
last words.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from novakube_kit.errors import HostBusy, HostFailure
from novakube_kit.failpoints import failpoint

_WORDS_OF_ERROR = 2000  # characters of stderr that reach a message


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits for a program that reads untrusted bytes."""

    address_space_bytes: int
    cpu_s: int

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """The command under util-linux' prlimit (a preexec function is unsafe in threads)."""
        return [
            "prlimit",
            f"--as={self.address_space_bytes}",
            f"--cpu={self.cpu_s}",
            "--core=0",
            "--",
            *argv,
        ]


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", "")
    return {"LC_ALL": "C", "PATH": f"{path}:/usr/sbin:/sbin:/usr/bin:/bin"}


def failure(argv: Sequence[str], code: int, stderr: bytes) -> HostFailure:
    """A failed command as an error with the program's own words."""
    words = stderr.decode(errors="replace").strip()[-_WORDS_OF_ERROR:]
    end = f"was killed by signal {-code}" if code < 0 else f"failed with code {code}"
    return HostFailure(f"{argv[0]} {end}: {words or 'it said nothing'}", reason="CommandFailed")


def missing(argv: Sequence[str]) -> HostFailure:
    """The program is not installed."""
    return HostFailure(f"the program {argv[0]} is not on this node", reason="ProgramMissing")


async def run(argv: Sequence[str], *, deadline_s: float, limits: Limits | None = None) -> bytes:
    """Runs a program to its end; returns what it wrote to stdout.

    Raises:
        HostFailure: not installed (``ProgramMissing``) or a non-zero end (``CommandFailed``).
        HostBusy: not done within ``deadline_s``; the process group was killed.
    """
    command = limits.wrap(argv) if limits else list(argv)
    with failpoint(f"host.run.{argv[0]}"):
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise missing(command) from error
        try:
            async with asyncio.timeout(deadline_s):
                stdout, stderr = await process.communicate()
        except TimeoutError as error:
            raise HostBusy(f"{argv[0]} did not end within {deadline_s:g} s") from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise failure(argv, process.returncode, stderr)
        return stdout


def run_blocking(
    argv: Sequence[str],
    *,
    deadline_s: float,
    stdin: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Runs a program from a worker thread, in that thread's network namespace.

    Args:
        argv: the program and its arguments.
        deadline_s: seconds it may take.
        stdin: text it reads.
        variables: what its environment holds beside the usual.

    Returns:
        Exit code and stdout + stderr.

    Raises:
        HostFailure: not installed.
        HostBusy: not done within ``deadline_s``.
    """
    with failpoint(f"host.run.{argv[0]}"):
        try:
            done = subprocess.run(
                list(argv),
                input=stdin if stdin is not None else "",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**_environment(), **(variables or {})},
                timeout=deadline_s,
                text=True,
                errors="replace",
                start_new_session=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise missing(argv) from error
        except subprocess.TimeoutExpired as error:
            raise HostBusy(f"{argv[0]} did not end within {deadline_s:g} s") from error
        return done.returncode, done.stdout.strip()[-_WORDS_OF_ERROR:]
