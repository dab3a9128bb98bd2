"""The keeper of containers: the loop of `run.keeper`, where what runs is a container of an engine.

    driver ──▶ keeper ──(engine's socket)──▶ the container;  its output ──▶ keeper ──▶ log files

It outlives its driver as every keeper does.  When it dies itself, the container goes on and the engine keeps its
output: a successor (`{"take_up": true}`) claims the record, reads from the engine's log what the files lack, and takes
the run to its end.  What it needs for that lies beside the record (`.run.json.job`) until then: no environment in it,
no secret.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from rompy_hydra.errors import RompyHydraError
from rompy_hydra.record.states import RunState
from rompy_hydra.record.store import RECORD_NAME, take_up_record, utc
from rompy_hydra.run import keeper as keeper_program
from rompy_hydra.run.attempt import AbortWatch, Attempt, Refusal, Verdict, open_log
from rompy_hydra.run.docker_box import SILENCE_PATIENCE_S, Box, Usage
from rompy_hydra.run.docker_container import ROLE_LABEL, SECRETS_DIR, container_config
from rompy_hydra.run.docker_engine import Engine, EngineError
from rompy_hydra.run.keeper import Keeper
from rompy_hydra.run.processes import human_bytes
from rompy_hydra.run.success import last_line, quote

JOB_FILE = f".{RECORD_NAME}.job"
_TAKE_UP_PATIENCE_S = 60.0
_MEMORY_DIR = "/dev/shm"  # noqa: S108 - secrets pass through memory, never through a disk


class ContainerAttempt(Attempt):
    """One container from its creation to its removal."""

    def __init__(self, keeper: Keeper, message: dict[str, Any]) -> None:
        super().__init__(keeper, message)
        self._settings: dict[str, Any] = self._job["container"]
        self._takes_up: bool = message.get("take_up", False)
        self._engine: Engine | None = None
        self._box: Box | None = None
        self._usage = Usage()
        self._facts: dict[str, Any] = {}  # what the engine says of it in the end

    # ---- start

    def _start(self) -> None:
        try:
            if self._takes_up:
                self._box = self._take_up()
            else:
                self._box = self._create_and_start(self._connect())
        except RompyHydraError as error:
            if self._takes_up:  # it goes on as it did; the next one who looks tries again
                raise Refusal("take_up", f"its container cannot be taken up: {error}") from error
            self._abandon()
            raise Refusal("engine" if isinstance(error, EngineError) else "tool", str(error)) from error
        except Refusal:
            if not self._takes_up:
                self._abandon()
            raise
        self._aborts = AbortWatch(self._job["abort_on"], self._logs)
        self._announce()

    def _connect(self) -> Engine:
        engine = self._engine = _engine_of(self._settings["engine"])
        return engine

    def _take_up(self) -> Box:
        """Find the container again; an engine that is busy or restarts gets a minute, as nobody else watches it."""
        deadline = time.monotonic() + _TAKE_UP_PATIENCE_S
        while True:
            try:
                return self._find_again(self._connect())
            except RompyHydraError:
                if time.monotonic() > deadline or self._keeper.ending_asked() is not None:
                    raise
            self._keeper.turn(1.0)

    def _create_and_start(self, engine: Engine) -> Box:
        name = f"rompy-hydra-{_safe(self._job['run_id'])}-{self._token[:8]}"
        self._record = {
            **self._record,
            "state": RunState.RUNNING.value,
            "reason": "",
            "started_at": utc(),
            "job_token": self._token,
            "watcher": {"role": "keeper", **self._keeper.identity.to_dict()},
            "container": {"name": name, "engine": engine.address, "image": self._settings["image"]},
            "logs": self._logs,
        }
        self._keep_job()
        self._claim()
        box = self._box = Box(engine, name, self._open_logs(), self._keeper)
        with SecretFiles(self._settings["secret_files"], self._settings["user"]) as secrets_at:
            box.create(self._config(self._job["argv"], secrets_at))
            self._record["container"]["id"] = box.id
            self._record["started_at"] = utc()  # the engine's own stamp comes after the first instructions
            self._write_interim(self._record)
            box.start()
        self._clock = time.monotonic()
        return box

    def _config(self, argv: list[str], secrets_at: str | None, role: str = "run") -> dict[str, Any]:
        return container_config(
            self._settings,
            argv=argv,
            environment=self._job["environment"],
            directory=self._job["directory"],
            memory_bytes=self._job["memory_bytes"],
            cpu_affinity=self._job["cpu_affinity"],
            token=self._token,
            role=role,
            secrets_at=secrets_at,
        )

    def _find_again(self, engine: Engine) -> Box:
        """The container of a run whose keeper has died."""
        all_found = engine.find(self._token)
        found = [c for c in all_found if (c.get("Labels") or {}).get(ROLE_LABEL) == "run"]
        try:
            taken = take_up_record(self._job["run_dir"], self._token, self._watcher())
        except (OSError, ValueError) as error:
            raise Refusal("record", f"its record cannot be written: {error}") from error
        if isinstance(taken, str):
            raise Refusal("claim", taken)
        self._record = taken
        self._was_claimed = True
        self._notes.append("its keeper died while it ran; another one took it up from the engine")
        for other in all_found:
            if other not in found:  # a check that was going on: it is made again
                with suppress(EngineError):
                    engine.remove(str(other["Id"]))
        box = Box(engine, str(taken["container"]["name"]), self._open_logs(again=True), self._keeper)
        if not found:
            box.facts = {"State": {"Error": "gone"}}
            box.is_over = True
            return box
        box.take_up(str(found[0]["Id"]))
        started = _seconds(str((box.facts.get("State") or {}).get("StartedAt", "")))
        self._clock = time.monotonic() - max(0.0, time.time() - started) if started else time.monotonic()
        return box

    def _watcher(self) -> dict[str, Any]:
        return {"role": "keeper", **self._keeper.identity.to_dict()}

    def _keep_job(self) -> None:
        """What a successor needs; what the engine knows already, environment and secrets, is left out."""
        settings = {**self._settings, "secret_files": {}}
        kept = {**self._job, "environment": {}, "container": settings}
        path = os.path.join(self._job["run_dir"], JOB_FILE)
        try:
            with open(path, "w", encoding="utf-8") as file:
                json.dump({"token": self._token, "job": kept}, file)
        except OSError as error:
            raise Refusal("record", f"{path}: {error.strerror}", error.errno) from error

    def _open_logs(self, *, again: bool = False) -> dict[int, int]:
        """Stream number (1, 2) → descriptor of its log."""
        try:
            out = _log(self._logs["stdout"], again=again)
            same = self._logs["stderr"] == self._logs["stdout"]
            return {1: out, 2: os.dup(out) if same else _log(self._logs["stderr"], again=again)}
        except OSError as error:
            raise Refusal(
                "log", f"its log {error.filename} cannot be written: {error.strerror}", error.errno
            ) from error

    def _announce(self) -> None:
        self._has_started = True
        if self._tell_start:
            self._tell_start = False
            self._keeper.tell("started", process=None, watcher=self._record["watcher"])

    # ---- watch

    def _has_ended(self) -> bool:
        assert self._box is not None
        return self._box.look()

    @property
    def _due(self) -> float:
        return min(self._usage.due, self._box.due if self._box is not None else math.inf)

    def _weigh(self) -> Verdict | None:
        if self._box is not None and time.monotonic() >= self._usage.due:
            self._usage.sample(self._box)
        return None  # the engine holds the limit

    def _bring_to_an_end(self, verdict: Verdict | None) -> None:
        box = self._box
        assert box is not None
        if verdict is not None:
            grace_s = self._job["grace_s"] if verdict.grace_s is None else verdict.grace_s
            if box.stop(grace_s):
                verdict.reason += "; it had to be killed"
        box.finish()
        self._facts = box.facts
        self._notes += box.notes
        if not box.is_over:
            self._keeper.tainted = True
            self._notes.append(f"the container {box.name} could not be ended: docker rm -f {box.name}")

    def _abandon(self) -> None:
        if self._box is not None:
            with suppress(RompyHydraError):
                self._box.remove()
            self._box.close()

    # ---- judge

    def _measure(self) -> dict[str, Any]:
        state = self._facts.get("State") or {}
        started, ended = _seconds(str(state.get("StartedAt", ""))), _seconds(str(state.get("FinishedAt", "")))
        known = state.get("Status") in ("exited", "dead")
        return {
            "state": "",
            "exit_code": int(state["ExitCode"]) if known and "ExitCode" in state else None,
            "signal": None,  # an engine tells 128 + n for it
            "reason": "",
            "started_at": self._record["started_at"],
            "ended_at": utc(ended) if ended else utc(),
            "wall_seconds": max(0.0, round(ended - started, 6)) if started and ended else None,
            "cpu_seconds": self._usage.cpu_seconds,
            "peak_memory_bytes": self._usage.peak_bytes,
            "memory_measured_by": self._usage.method,
            "logs": self._logs,
        }

    def _judge(self, outcome: dict[str, Any]) -> Verdict:
        box = self._box
        assert box is not None
        if self._facts.get("State", {}).get("Error") == "gone":
            return Verdict(
                RunState.LOST, f"its container {box.name} is gone from the engine, and its exit code with it"
            )
        if box.gave_up:
            return Verdict(RunState.LOST, f"{box.gave_up}; docker inspect {box.name} tells more when it is back")
        if self._facts.get("State", {}).get("Status") == "created":
            return Verdict(RunState.LOST, "its keeper died before it had started the container")
        verdict = super()._judge(outcome)
        if verdict.state is RunState.SUCCEEDED and (self._facts.get("State") or {}).get("OOMKilled"):
            self._notes.append("the kernel's out-of-memory killer struck in its container all the same")
        return verdict

    def _explain(self, outcome: dict[str, Any], reason: str) -> Verdict:
        state = self._facts.get("State") or {}
        if state.get("OOMKilled"):
            limit = self._job["memory_bytes"]
            given = f" of {human_bytes(limit)}" if limit is not None else ""
            return Verdict(RunState.OUT_OF_MEMORY, f"the engine saw it above its memory{given}: {reason}")
        # Our own signals come with a verdict, so one that is seen here is somebody else's.
        was_silent = self._box is not None and self._box.was_silent
        if was_silent or outcome["exit_code"] in (128 + signal.SIGKILL, 128 + signal.SIGTERM):
            reason += "; it was not us who ended it: somebody stopped the container, or its engine went away"
        return Verdict(RunState.FAILED, _explained(reason, outcome["exit_code"], self._job["argv"], self._logs))

    def _run_check(self, argv: list[str], log: str, timeout_s: float) -> Verdict | int:
        """The check in a container like the run's: same image, mounts, user and environment."""
        assert self._engine is not None
        assert self._box is not None
        try:
            out = open_log(log)
        except OSError as error:
            return Verdict(RunState.FAILED, f"success.check could not be started: {error.filename}: {error.strerror}")
        box = Box(self._engine, f"{self._box.name}-check", {1: out, 2: os.dup(out)}, self._keeper)
        try:
            if self._takes_up:  # environment and secrets are not in our hands, but the run's own container has them
                box.create(_like(self._facts, argv, self._job["run_dir"]))
                box.start()
            else:
                with SecretFiles(self._settings["secret_files"], self._settings["user"]) as secrets_at:
                    box.create({**self._config(argv, secrets_at, role="check"), "WorkingDir": self._job["run_dir"]})
                    box.start()
            deadline = time.monotonic() + timeout_s
            while not box.look():
                if (verdict := self._check_verdict(deadline, timeout_s)) is not None:
                    box.stop(self._job["grace_s"] if verdict.grace_s is None else verdict.grace_s)
                    return verdict
                self._keeper.turn(min(deadline, box.due) - time.monotonic())
            box.finish()
            state = box.facts.get("State") or {}
            return int(state.get("ExitCode", 1))
        except RompyHydraError as error:
            return Verdict(RunState.FAILED, f"success.check could not be run: {error}")
        finally:
            with suppress(RompyHydraError):
                box.remove()
            box.close()

    # ---- record

    def _finish(self, outcome: dict[str, Any]) -> None:
        super()._finish(outcome)
        deadline = time.monotonic() + SILENCE_PATIENCE_S
        while self._box is not None and self._box.is_left_behind and time.monotonic() < deadline:
            self._keeper.turn(1.0)  # the engine was away when it should have removed the container
            with suppress(EngineError):
                self._box.remove()

    def _write_last(self, record: dict[str, Any]) -> str | None:
        box = self._box
        failed = super()._write_last(record)
        if box is not None and failed is None:  # only now: until the end is recorded the engine must keep it
            has_run = self._has_started and (box.facts.get("State") or {}).get("Status") != "created"
            if not box.gave_up and (self._settings["remove"] or not has_run):
                try:
                    box.remove()
                except EngineError as error:
                    box.is_left_behind = error.is_silent
            with suppress(OSError):
                os.unlink(os.path.join(self._job["run_dir"], JOB_FILE))
        if box is not None:
            box.close()
        return failed


class SecretFiles:
    """Secret files in memory for the moment of a container's start: a mount keeps what its name has lost."""

    def __init__(self, files: dict[str, str], user: str) -> None:
        self._files = files
        self._user = user
        self._directory: str | None = None

    def __enter__(self) -> str | None:
        if not self._files:
            return None
        try:
            self._directory = tempfile.mkdtemp(prefix="rompy-hydra-", dir=_MEMORY_DIR)
            for name, value in self._files.items():
                path = os.path.join(self._directory, name)
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
                with open(fd, "wb") as file:
                    file.write(value.encode("utf-8", "surrogateescape"))
                self._hand_to_the_user(path)
        except OSError as error:
            self.__exit__()
            raise Refusal(
                "secrets", f"its secrets cannot be handed over in memory ({_MEMORY_DIR}): {error.strerror}"
            ) from error
        return self._directory

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _hand_to_the_user(self, path: str) -> None:
        uid = self._user.partition(":")[0]
        if uid.isdigit() and int(uid) == os.geteuid():
            return
        if uid.isdigit() and os.geteuid() == 0:
            os.chown(path, int(uid), -1)
        else:
            os.chmod(path, 0o444)  # its directory is open to us alone; in the container it is whoever runs


def _engine_of(address: str) -> Engine:
    """One connection for the life of this keeper."""
    if address not in _engines:
        _engines[address] = Engine.connect(address)
    return _engines[address]


_engines: dict[str, Engine] = {}


def _like(facts: dict[str, Any], argv: list[str], directory: str) -> dict[str, Any]:
    """A container like another one, for another command."""
    config, host = dict(facts["Config"]), dict(facts["HostConfig"])
    mounts = [m for m in host.get("Mounts") or [] if not str(m["Target"]).startswith(f"{SECRETS_DIR}/")]  # gone with it
    keep = ("Image", "Env", "User", "Healthcheck")
    return {
        **{name: config[name] for name in keep if name in config},
        "Labels": {**(config.get("Labels") or {}), ROLE_LABEL: "check"},
        "Entrypoint": [argv[0]],
        "Cmd": list(argv[1:]),
        "WorkingDir": directory,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {**host, "Mounts": mounts},
    }


_FROM_INIT = re.compile(r"\[FATAL\s+tini")


def _explained(reason: str, exit_code: int | None, argv: list[str], logs: dict[str, str]) -> str:
    """What the exit codes of a container mean that are not the model's."""
    if exit_code in (126, 127) and _FROM_INIT.match(last_line(logs.get("stderr", ""))):
        what = "has no program" if exit_code == 127 else "cannot execute"
        return f"exit code {exit_code}: the image {what} {quote(argv[0])}: {quote(last_line(logs['stderr']))}"
    return reason


def _safe(run_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", run_id)[:60].strip("-.") or "run"


def _log(path: str, *, again: bool) -> int:
    if again and os.path.exists(path):
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    return open_log(path)


def _seconds(stamp: str) -> float | None:
    """The engine's time as seconds; None for its zero."""
    found = re.match(r"(\d{4})-(\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z", stamp)
    if not found or found[1] == "0001":
        return None
    whole = datetime.fromisoformat(f"{found[1]}-{found[2]}+00:00").timestamp()
    return whole + float(found[3] or 0)


def main(*, has_terminal: bool = False) -> None:
    """The keeper as a program; see `run.keeper`."""
    keeper_program.main(has_terminal=has_terminal, attempt=ContainerAttempt)
