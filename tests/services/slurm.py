"""Slurm on one machine: munge, slurmctld and slurmd started by hand, without an accounting database."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from tests.services.daemon import STATE_DIR, Daemon, ServiceError, require_programs, require_root

FOLDER = STATE_DIR / "slurm"
CONFIG = FOLDER / "slurm.conf"
SYSTEM_CONFIG = Path("/etc/slurm/slurm.conf")
MUNGE_RUN_DIR = Path("/run/munge")
MUNGE_KEY = Path("/etc/munge/munge.key")

# Scheduling without its usual delays, finished jobs forgotten after 10 s ("the controller no longer knows this job" is
# a case of its own), more CPUs than the machine has, memory limits that kill. Without DefMemPerCPU every job would take
# the whole node and run alone.
CONFIG_TEMPLATE = """\
# Written by tests/services/slurm.py; changes are lost at the next start.
ClusterName=rompytest
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1
MinJobAge=10
KillWait=5
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=16 Boards=1 SocketsPerBoard=1 CoresPerSocket=16 ThreadsPerCore=1 RealMemory=16000
NodeName={host} NodeAddr=127.0.0.1
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE
PartitionName=short Nodes=ALL MaxTime=00:05:00
"""

_OURS = {"SLURM_CONF": str(CONFIG)}
MUNGED = Daemon("munged", ["munged", "--foreground"], user="munge")
# -c: jobs that an earlier start left behind must not run now
SLURMCTLD = Daemon("slurmctld", ["slurmctld", "-D", "-c"], env=_OURS)
SLURMD = Daemon("slurmd", ["slurmd", "-D", "-c"], env=_OURS)


# Two nodes of our own for tests that stop the controller, drain a node or kill one; some GPUs that nobody looks at.
PRIVATE_TEMPLATE = """\
SlurmctldPort={port}
GresTypes=gpu
SlurmctldTimeout=5
SlurmdTimeout=10
MessageTimeout=5
NodeName=rompy[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{second}] Gres=gpu:2
PartitionName=private Nodes=rompy[1-2] Default=YES MaxTime=INFINITE
"""


class PrivateSlurm:
    """A cluster of two nodes beside the shared one, for as long as the block lasts: it may be stopped and broken.

    `environ` is what its commands, and ours, need to find it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environ = {"SLURM_CONF": str(self.conf)}
        name = f"private-{os.getpid()}"
        self.controller = Daemon(f"slurmctld-{name}", ["slurmctld", "-D"], env=self.environ)
        self.nodes = [
            Daemon(f"slurmd-{name}-{n}", ["slurmd", "-D", "-N", f"rompy{n}"], env=self.environ) for n in (1, 2)
        ]

    def __enter__(self) -> Self:
        require_root("Slurm")
        _start_munge()
        for sub in ("state", "spool/rompy1", "spool/rompy2"):
            (self.folder / sub).mkdir(parents=True, exist_ok=True)
        port, first = _free_ports(1), _free_ports(2)
        lines = [
            line
            for line in CONFIG_TEMPLATE.format(host=_host(), folder=self.folder).splitlines()
            if not line.startswith(
                ("NodeName=" + _host(), "PartitionName=", "ClusterName=", "SlurmdSpoolDir", "SlurmdPidFile")
            )
        ]
        more = PRIVATE_TEMPLATE.format(host=_host(), port=port, first=first, second=first + 1)
        names = [
            f"ClusterName=private{port}",
            f"SlurmdSpoolDir={self.folder}/spool/%n",
            f"SlurmdPidFile={self.folder}/%n.pid",
        ]
        self.conf.write_text("\n".join([*lines, *names, more]))
        (self.folder / "gres.conf").write_text(
            "".join(f"NodeName=rompy[1-2] Name=gpu File=/dev/{device}\n" for device in ("null", "zero"))
        )
        try:
            self.controller.start()
            self.controller.wait_until(lambda: None if " is UP" in self.ask("scontrol", "ping") else "no answer")
            for node in self.nodes:
                node.start()
            self.wait_idle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in (*self.nodes, self.controller):
            daemon.stop()

    def wait_idle(self) -> None:
        """Until both nodes can run something."""
        self.nodes[0].wait_until(
            lambda: (
                None
                if self.ask("sinfo", "--noheader", "--format=%T %D").split() == ["idle", "2"]
                else self.ask("sinfo", "--noheader", "--Node", "--format=%N %T %E")
            )
        )

    def ask(self, *words: str) -> str:
        """The answer of one of its commands."""
        env = {**{k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}, **self.environ}
        return subprocess.run(words, capture_output=True, text=True, timeout=60, env=env, check=False).stdout


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            number: int = first.getsockname()[1]
            try:
                for more in range(1, count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", number + more))
            except OSError:
                continue
            return number


def missing() -> str | None:
    """Why Slurm cannot be used, with what to do; None if it can."""
    if shutil.which("sbatch") is None:
        return "no `sbatch` on PATH; on Debian: apt-get install slurm-wlm munge, then `make services`"
    nodes = _ask(["sinfo", "--noheader", "--format=%T"])
    if nodes.returncode != 0:
        return f"no Slurm controller answers ({_last_line(nodes)}); start it with `make services`"
    states = set(nodes.stdout.split())
    if not states & {"idle", "mixed", "allocated", "completing"}:
        return (
            f"Slurm has no node to run on (states: {', '.join(sorted(states)) or 'none'}); `make services` starts one"
        )
    return None


def start() -> None:
    """Start munge, the controller and one node, unless a Slurm answers already (then that one is used)."""
    if missing() is None:
        return
    require_root("Slurm")
    require_programs(["munged", "slurmctld", "slurmd", "sbatch"], package="slurm-wlm munge")
    _start_munge()
    for sub in ("state", "spool"):
        (FOLDER / sub).mkdir(parents=True, exist_ok=True)
    CONFIG.write_text(CONFIG_TEMPLATE.format(host=_host(), folder=FOLDER))
    _publish_config()
    if SLURMCTLD.pid() is None:
        SLURMD.stop()  # a node registers when it starts; a controller started after it would wait for the next time
        SLURMCTLD.start()
        SLURMCTLD.wait_until(_controller_complaint)
    SLURMD.start()
    SLURMD.wait_until(missing)


def stop() -> bool:
    """End what we started, node first; forget the configuration that pointed here."""
    stopped = [daemon.stop() for daemon in (SLURMD, SLURMCTLD, MUNGED)]
    if SYSTEM_CONFIG.is_symlink() and SYSTEM_CONFIG.readlink() == CONFIG:
        SYSTEM_CONFIG.unlink()
    return any(stopped)


def status() -> str:
    reason = missing()
    if reason is not None:
        return f"not running: {reason}"
    pids = [f"{daemon.name} {daemon.pid()}" for daemon in (MUNGED, SLURMCTLD, SLURMD) if daemon.pid()]
    owner = f"{', '.join(pids)}; logs {SLURMD.log.parent}" if pids else "not started by us"
    return f"running, configuration {SYSTEM_CONFIG} ({owner})"


def _start_munge() -> None:
    if _munge_complaint() is None:
        return
    for folder in (MUNGE_RUN_DIR, MUNGE_KEY.parent):
        folder.mkdir(mode=0o755, exist_ok=True)
        shutil.chown(folder, "munge", "munge")
    if not MUNGE_KEY.exists():
        MUNGE_KEY.touch(mode=0o600)
        MUNGE_KEY.write_bytes(secrets.token_bytes(128))
        shutil.chown(MUNGE_KEY, "munge", "munge")
    # a socket of a munged that is gone would be refused; a live one would have answered above
    for leftover in MUNGE_RUN_DIR.glob("munge.socket*"):
        leftover.unlink()
    MUNGED.start()
    MUNGED.wait_until(_munge_complaint)


def _publish_config() -> None:
    """Let every Slurm command find our configuration without a variable; a site's own is never replaced."""
    if SYSTEM_CONFIG.exists() and not SYSTEM_CONFIG.is_symlink():
        raise ServiceError(
            f"{SYSTEM_CONFIG} belongs to this machine and its controller does not answer"
            f" ({_last_line(_ask(['scontrol', 'ping']))}); start that one, or move the file away"
        )
    SYSTEM_CONFIG.parent.mkdir(parents=True, exist_ok=True)
    SYSTEM_CONFIG.unlink(missing_ok=True)
    SYSTEM_CONFIG.symlink_to(CONFIG)


def _munge_complaint() -> str | None:
    result = _ask(["munge", "--no-input"])
    return None if result.returncode == 0 else _last_line(result)


def _controller_complaint() -> str | None:
    result = _ask(["scontrol", "ping"])
    return None if " is UP" in result.stdout else _last_line(result)


def _ask(argv: list[str]) -> subprocess.CompletedProcess[str]:
    # A surrounding job's SLURM_* variables must not change what is asked; SLURM_CONF says where the site's Slurm is.
    env = {k: v for k, v in os.environ.items() if k == "SLURM_CONF" or not k.startswith("SLURM_")}
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, env=env, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 1, "", f"`{' '.join(argv)}` does not answer within 20 s")


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _last_line(result: subprocess.CompletedProcess[str]) -> str:
    lines = (result.stderr or result.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {result.returncode}"
