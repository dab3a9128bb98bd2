"""`run.json` on disk: written aside then renamed, read with a clear error, observed as the truth stands now.

Stdlib only: the keeper writes with it and `status` must start fast.

Who writes when, so that nobody overwrites what another one knows better:

- the driver writes `queued` (watcher: itself) before it hands the job to a keeper;
- the keeper *claims* the record under the marker: only a record that is still queued with its own token becomes
  `running`; so a run that an observer has called `lost` in between is never started;
- an observer turns a queued or running record into `lost` under the same marker, only after it saw that the watcher is
  dead and that the record did not change after that: a dead watcher writes no more;
- a running record whose keeper is dead, while an engine goes on with the run (`container`), is not lost: whoever finds
  it first becomes its watcher under the marker (`take_up_record`), and takes it to its end;
- the keeper's last write needs no marker: while it lives nobody else writes.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rompy_hydra.record.liveness import ProcessIdentity, boot_id
from rompy_hydra.record.states import RunState

RECORD_NAME = "run.json"
SCHEMA = "rompy-hydra/run"
SCHEMA_VERSION = 1
MARKER_NAME = f".{RECORD_NAME}.marker"
RESERVE_NAME = f".{RECORD_NAME}.reserve"
RESERVE_BYTES = 65536

_OURS = f".{RECORD_NAME}."
_WATCHED = {RunState.QUEUED.value, RunState.RUNNING.value}


def write_record(run_dir: str | os.PathLike[str], data: dict[str, Any], *, durable: bool = True) -> None:
    """Replace `run.json` of `run_dir`: written aside, fsynced (if `durable`), renamed.

    SiteError (disk full, no permission, read-only) names the path and keeps the cause; the old record stays whole.
    """
    try:
        replace_record(run_dir, data, durable=durable)
    except OSError as error:
        from rompy_hydra.errors import SiteError  # here: its imports would slow down the keeper's start

        path = os.path.join(run_dir, RECORD_NAME)
        raise SiteError(f"the record {path} cannot be written: {error.strerror or error}") from error


def replace_record(
    run_dir: str | os.PathLike[str],
    data: dict[str, Any],
    *,
    durable: bool = True,
    aside: str | None = None,
) -> None:
    """`write_record` with the plain OSError, for the keeper.

    `aside` is the temporary file's name: a reserve made by `reserve_space` is written over in place, so that the end
    of a run can be recorded on a full disk.
    """
    text = dump_record({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **data})
    directory = os.fspath(run_dir)
    path = os.path.join(directory, aside or f"{_OURS}{os.getpid()}")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.ftruncate(fd, len(text))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(path, os.path.join(directory, RECORD_NAME))
    except OSError:
        if aside is None:
            _unlink_quietly(path)
        raise


def reserve_space(run_dir: str) -> None:
    """Make the file `RESERVE_NAME` with blocks of its own, for `replace_record(aside=RESERVE_NAME)` on a full disk."""
    fd = os.open(os.path.join(run_dir, RESERVE_NAME), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.posix_fallocate(fd, 0, RESERVE_BYTES)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        # EOPNOTSUPP, EINVAL: a file system that cannot reserve; the record is then written as space allows.
    finally:
        os.close(fd)


def dump_record(data: dict[str, Any]) -> bytes:
    """JSON with one top-level key a line (and one line per entry of a long list): quick to write, pleasant to read."""
    try:
        return _dump(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a name on disk that is not UTF-8 travels as an escaped lone surrogate
        return _dump(data, ensure_ascii=True).encode()


def _dump(data: dict[str, Any], *, ensure_ascii: bool) -> str:
    encode = _encoder(ensure_ascii)
    lines = []
    for key, value in data.items():
        if isinstance(value, (list, tuple)) and len(value) > 1 and isinstance(value[0], dict):
            text = "[\n    " + ",\n    ".join(encode(item) for item in value) + "\n  ]"
        else:
            text = encode(value)
        lines.append(f"  {encode(str(key))}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _encoder(ensure_ascii: bool) -> Callable[[Any], str]:
    return json.JSONEncoder(ensure_ascii=ensure_ascii).encode


def read_record(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """The record as it was written last; RecordError when it is missing, torn, or of a newer version."""
    from rompy_hydra.errors import RecordError

    path = os.path.join(run_dir, RECORD_NAME)
    try:
        data = load_record(run_dir)
    except FileNotFoundError as error:
        raise RecordError(f"there is no record {path}: this is not the directory of a run") from error
    except OSError as error:
        raise RecordError(f"the record {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RecordError(f"the record {path} is torn or was edited: {error}") from error
    version = data.get("schema_version")
    if data.get("schema") != SCHEMA or not isinstance(version, int):
        raise RecordError(f"{path} is not a record of ours: its schema is {data.get('schema')!r}, not {SCHEMA!r}")
    if version > SCHEMA_VERSION:
        raise RecordError(
            f"the record {path} was written by a newer rompy-hydra (schema version {version}, we read up to "
            f"{SCHEMA_VERSION}): update rompy-hydra to read it"
        )
    return data


def load_record(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """`run.json` as plain data: OSError or ValueError when there is none."""
    with open(os.path.join(run_dir, RECORD_NAME), "rb") as file:
        data = json.loads(file.read())
    if not isinstance(data, dict):
        raise ValueError("it holds no mapping")
    return data


def observe(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """The record as the truth stands now.

    A queued or running record whose watcher (`watcher`: the driver or the keeper) is dead on this host becomes `lost`,
    on disk too if the directory can be written; several observers at once make one transition.  With a watcher that
    cannot be looked up from here (another host) the record is handed back as it is, with `unverified: True`.
    """
    data = read_record(run_dir)
    verdict = _verdict(data)
    return verdict if isinstance(verdict, dict) else _transition(run_dir, data, _verdict)


def mark_lost(run_dir: str | os.PathLike[str], seen: dict[str, Any], reason: str) -> dict[str, Any]:
    """Turn a record into `lost` because the caller knows that its keeper is dead; returns it as it is afterwards.

    A record that has ended already, or belongs to another start of the run (`job_token`), stays as it is.  `seen` is
    what the caller knows of it, for a run whose record is written at its end only.
    """

    def verdict(now: dict[str, Any]) -> dict[str, Any] | str:
        ours = now.get("job_token") == seen.get("job_token") and now.get("state") in _WATCHED
        return reason if ours else now

    return _transition(run_dir, seen, verdict)


def _transition(
    run_dir: str | os.PathLike[str],
    seen: dict[str, Any],
    verdict: Callable[[dict[str, Any]], dict[str, Any] | str],
) -> dict[str, Any]:
    """Write `lost` if `verdict` (a sentence) still says so under the marker, and once only."""
    try:
        with marker(run_dir):
            now = _reread(run_dir, seen)
            while isinstance(reason := verdict(now), str):
                # The watcher was seen dead after `now` was read: a record that is still the same is its last word.
                if (again := _reread(run_dir, seen)) == now:
                    lost = _lost(now, reason)
                    replace_record(run_dir, lost, aside=RESERVE_NAME)  # the dead keeper's, or a new one
                    return lost
                now = again
            return reason
    except OSError:
        # No permission, read-only, full: readers need no write permission, they get the view.  EEXIST (somebody else
        # holds the marker for long) likewise: their transition will be the same.
        now = _reread(run_dir, seen)
        reason = verdict(now)
        return _lost(now, reason) if isinstance(reason, str) else reason


def claim_record(run_dir: str, data: dict[str, Any]) -> str | None:
    """The keeper's first write: `data` (running) replaces a record that is still queued with the same `job_token`.

    Returns None when claimed, else the sentence why not.  Leaves `RESERVE_NAME` behind for the last write.
    """
    with marker(run_dir, patience_s=5.0):
        now = load_record(run_dir)
        if now.get("job_token") != data.get("job_token"):
            return "its record was taken over by another start of the same run"
        if now.get("state") != RunState.QUEUED.value:
            return f"its record already says {now.get('state')}: {now.get('reason') or 'no reason given'}"
        replace_record(run_dir, data, aside=RESERVE_NAME)
        reserve_space(run_dir)
        return None


def take_up_record(run_dir: str, token: str, watcher: dict[str, Any]) -> dict[str, Any] | str:
    """Become the watcher of a running record whose own one is dead; the record, or the sentence why not."""
    with marker(run_dir, patience_s=5.0):
        now = load_record(run_dir)
        if now.get("job_token") != token:
            return "its record was taken over by another start of the same run"
        if now.get("state") != RunState.RUNNING.value:
            return f"its record already says {now.get('state')}: {now.get('reason') or 'no reason given'}"
        verdict = _verdict(now)
        if not (isinstance(verdict, dict) and verdict.get("unwatched")):
            return "somebody else watches it"
        taken = {**now, "watcher": watcher}
        replace_record(run_dir, taken, aside=RESERVE_NAME)
        reserve_space(run_dir)
        return taken


def _reread(run_dir: str | os.PathLike[str], seen: dict[str, Any]) -> dict[str, Any]:
    try:
        return load_record(run_dir)
    except FileNotFoundError:
        return seen  # kept at the end only (sweeps): there is none yet


def _verdict(data: dict[str, Any]) -> dict[str, Any] | str:
    """The record with what is to be said about its watcher, or the sentence why it is lost."""
    if data.get("state") not in _WATCHED:
        return data
    who = data.get("watcher") or {}
    try:
        watcher = ProcessIdentity.from_dict(who)
    except (KeyError, TypeError, ValueError):
        return {**data, "unverified": True}
    alive = watcher.is_alive()
    if alive is None:
        return {**data, "unverified": True}
    if alive:
        return data
    queued = data["state"] == RunState.QUEUED.value
    if not queued and (_process_lives(data) or data.get("container")):
        # Its keeper died and could not take it along (a setuid program, say): it is not over, so it is not lost.  Of a
        # container only its engine knows (`run.observe` asks it).
        return {**data, "unwatched": True}
    how = "died" if watcher.boot_id == boot_id() else "ended with a restart of the machine"
    what = "it had not been started" if queued else "no exit status is known"
    if data.get("exit_code") is not None:
        what = f"its command had ended with exit code {data['exit_code']}, but the result was not checked"
    return f"its {who.get('role', 'watcher')} ({watcher}) {how} while the run was {data['state']}; {what}"


def _process_lives(data: dict[str, Any]) -> bool:
    try:
        return ProcessIdentity.from_dict(data["process"]).is_alive() is True
    except (KeyError, TypeError, ValueError):
        return False


def _lost(data: dict[str, Any], reason: str) -> dict[str, Any]:
    data = {key: value for key, value in data.items() if key not in ("unverified", "unwatched")}
    return {**data, "state": RunState.LOST.value, "reason": reason, "ended_at": None, "observed_at": utc()}


@contextmanager
def marker(run_dir: str | os.PathLike[str], *, patience_s: float = 1.0, name: str = MARKER_NAME) -> Iterator[None]:
    """Hold the run directory's marker: one holder at a time, a dead holder's marker is broken.

    It is a symbolic link whose target tells the holder: made in one exclusive step, never empty, also on NFS.
    OSError when it cannot be made; FileExistsError when another one holds it for longer than `patience_s`.
    """
    path = os.path.join(run_dir, name)
    mine = _holder_text(ProcessIdentity.of())
    deadline = time.monotonic() + patience_s
    while True:
        try:
            _make_marker(path, mine)
            break
        except FileExistsError:
            if _break_stale(path):
                continue
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
    try:
        yield
    finally:
        os.unlink(path)


def _break_stale(path: str) -> bool:
    """Remove the marker of a dead holder; True when it is worth trying again at once."""
    try:
        held = _held_by(path)
    except FileNotFoundError:
        return True
    if not _is_stale(held):
        return False
    # Two breakers must not remove each other's fresh marker: only the holder of the breaker's link may unlink, and
    # only what it still finds stale.  (A stale breaker takes a second crash within microseconds: it just goes.)
    breaker = f"{path}.break"
    try:
        _make_marker(breaker, _holder_text(ProcessIdentity.of()))
    except FileExistsError:
        try:
            if _is_stale(_held_by(breaker)):
                _unlink_quietly(breaker)
        except FileNotFoundError:
            pass
        return False
    try:
        if _held_by(path) == held:
            os.unlink(path)
    except FileNotFoundError:
        pass
    finally:
        _unlink_quietly(breaker)
    return True


def _make_marker(path: str, text: str) -> None:
    try:
        os.symlink(text, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without symbolic links (a USB stick, some network disks).
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def _held_by(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        with open(path, encoding="utf-8") as file:
            return file.read()


def _holder_text(who: ProcessIdentity) -> str:
    return json.dumps(who.to_dict(), separators=(",", ":"))


def _is_stale(held: str) -> bool:
    try:
        return ProcessIdentity.from_dict(json.loads(held)).is_alive() is False
    except (ValueError, KeyError, TypeError):
        return False


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # only litter, and never a reason to hide the error that brought us here


def utc(seconds: float | None = None) -> str:
    """A time on disk: UTC, ISO 8601 with milliseconds and `Z`; default: now."""
    seconds = time.time() if seconds is None else seconds
    whole = int(seconds // 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((seconds - whole) * 1000):03d}Z"
