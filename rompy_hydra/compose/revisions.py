"""A config repository as it was at a revision, laid out below the user's cache; no work tree is touched (→ sources).

--rev v1.2                                the user's own repository, at a tag, branch or commit
--config-dir git+file:///srv/ocean@v1.2   any repository that git can read; #subdirectory=DIR for one inside of it

<cache>/rompy-hydra/revisions/KEY/tree/…   conf/ and templates/ of one commit, read-only, written aside then renamed
<cache>/rompy-hydra/clones/KEY.git         a bare copy of a repository on another machine
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rompy_hydra.errors import ConfigError, Finding, MissingToolError, SiteError, did_you_mean
from rompy_hydra.record.provenance import REVISION_FILE

PREFIX = "git+"
_SCHEMES = ("file", "https", "ssh")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_ANSWER_S = 60
_NETWORK_S = 600
_TRIES = 5
_HIDDEN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


@dataclass(frozen=True, slots=True)
class Revision:
    """What was asked for (`name`), which commit that is, and of which repository."""

    name: str
    commit: str
    url: str

    @property
    def short(self) -> str:
        """`v1.2 (3f2a91c0d1e2)`; the commit alone where that was asked for."""
        return self.commit[:12] if self.commit.startswith(self.name) else f"{self.name} ({self.commit[:12]})"


def open_work_tree(conf: Path, revision: str, *, environ: Mapping[str, str]) -> tuple[Path, Revision]:
    """The options (and the templates beside them) that a work tree had at a revision.

    Raises `ConfigError` for what is no work tree of git, or does not know the revision.
    """
    place = conf if conf.is_dir() else conf.parent
    answer = _git(["-C", str(place), "rev-parse", "--absolute-git-dir", "--show-toplevel"], environ, check=False)
    if answer.returncode != 0:
        finding = Finding("--rev", f"{conf} is in no git repository", revision, mend=_said(answer) or None)
        raise ConfigError("there is no revision to compose from", [finding])
    git_dir, top = answer.stdout.splitlines()[:2]
    commit = _commit(Path(git_dir), revision, "--rev", top, environ)
    inside = conf.relative_to(Path(top).resolve())
    return _laid_out(Path(git_dir), Revision(revision, commit, top), inside, environ)


def open_url(
    name: str, *, revision: str | None, environ: Mapping[str, str], may_fetch: bool = True
) -> tuple[Path, Revision]:
    """The options of `git+file://…@REV`; `revision` is for a URL that names none (else: what its HEAD is).

    Raises `ConfigError` for what is no such URL, and `SiteError` where the repository cannot be reached.
    """
    url, wanted, folder = _parts(name)
    wanted = wanted or revision or "HEAD"
    if url.startswith("file://"):
        git_dir, folder = _local(url, folder, environ)
    else:
        git_dir = _clone(url, wanted, environ, may_fetch=may_fetch)
    commit = _commit(git_dir, wanted, name, url, environ)
    inside = folder / "conf" if _is_directory(git_dir, commit, folder / "conf", environ) else folder
    return _laid_out(git_dir, Revision(wanted, commit, url), inside, environ)


# -- names ---------------------------------------------------------------------------------------------------------


def _parts(name: str) -> tuple[str, str | None, Path]:
    """(URL for git, revision, folder inside) of `git+URL@REV#subdirectory=DIR`."""
    parts = urlsplit(name.removeprefix(PREFIX))
    shown = re.sub(r"//[^/@]*:[^/@]*@", "//***@", name)
    if parts.scheme not in _SCHEMES:
        mend = "write one of " + ", ".join(f"{PREFIX}{scheme}://…@REV" for scheme in _SCHEMES)
        raise ConfigError(
            f"{shown} is no repository", [Finding("--config-dir", "no such kind of URL", shown, mend=mend)]
        )
    if parts.password is not None:
        mend = "leave it out: git asks its credential helper, or takes a key (git+ssh)"
        raise ConfigError(f"{shown} holds a password", [_about(shown, "would be recorded", mend)])
    path, at, revision = parts.path.rpartition("@")
    if not at or (parts.scheme == "file" and Path(unquote(parts.path)).is_dir()):
        path, revision = parts.path, ""
    folder = Path()
    for item in filter(None, parts.fragment.split("&")):
        key, _, value = item.partition("=")
        if key != "subdirectory" or not value or Path(value).is_absolute() or ".." in Path(value).parts:
            raise ConfigError(
                f"{shown} cannot be read",
                [Finding("--config-dir", f"'#{item}' is not known", mend="write #subdirectory=DIR")],
            )
        folder = Path(value)
    return f"{parts.scheme}://{parts.netloc}{path}", unquote(revision) or None, folder


def _about(url: str, rule: str, mend: str) -> Finding:
    return Finding("--config-dir", rule, url, mend=mend)


def _local(url: str, folder: Path, environ: Mapping[str, str]) -> tuple[Path, Path]:
    path = unquote(urlsplit(url).path)
    answer = _git(["-C", path, "rev-parse", "--absolute-git-dir", "--show-prefix"], environ, check=False)
    if not Path(path).is_dir() or answer.returncode != 0:
        finding = Finding("--config-dir", "is no git repository", path, mend=_said(answer) or None)
        raise ConfigError(f"there is no repository {url}", [finding])
    git_dir, _, prefix = answer.stdout.partition("\n")
    return Path(git_dir), Path(prefix.strip() or ".") / folder


# -- what git knows ------------------------------------------------------------------------------------------------


def _commit(git_dir: Path, revision: str, asked_by: str, place: str, environ: Mapping[str, str]) -> str:
    command = [
        "--git-dir",
        str(git_dir),
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        f"{revision}^{{commit}}",
    ]
    answer = _git(command, environ, check=False)
    if answer.returncode == 0:
        return answer.stdout.strip()
    listed = _git(
        ["--git-dir", str(git_dir), "for-each-ref", "--format=%(refname:short)", "refs/tags", "refs/heads"],
        environ,
        check=False,
    )
    mend = did_you_mean(revision, listed.stdout.split()) or "it has no tag or branch; name a commit"
    finding = Finding(asked_by, f"{place} knows no revision '{revision}'", revision, mend=mend)
    raise ConfigError(f"there is no revision '{revision}'", [finding])


def _is_directory(git_dir: Path, commit: str, path: Path, environ: Mapping[str, str]) -> bool:
    kind = _git(["--git-dir", str(git_dir), "cat-file", "-t", f"{commit}:{_inside(path)}"], environ, check=False)
    return kind.stdout.strip() == "tree"


def _inside(path: Path) -> str:
    return "" if path == Path() else path.as_posix()


def _clone(url: str, wanted: str, environ: Mapping[str, str], *, may_fetch: bool) -> Path:
    """A bare copy of a repository on another machine, as new as it has to be: a whole commit never changes."""
    place = _cache(environ) / "clones" / f"{_digest(url)}.git"
    if place.is_dir():
        known = ["--git-dir", str(place), "cat-file", "-e", f"{wanted}^{{commit}}"]
        if not may_fetch or (_COMMIT.match(wanted) and _git(known, environ, check=False).returncode == 0):
            return place
        _over_the_network(
            ["--git-dir", str(place), "fetch", "--quiet", "--prune", "origin", "+refs/*:refs/*"], url, environ
        )
        return place
    if not may_fetch:
        raise ConfigError(f"{url} has not been fetched yet")
    aside = _aside(place)
    try:
        _over_the_network(["clone", "--quiet", "--mirror", "--", url, str(aside)], url, environ)
        _put(aside, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return place


def _over_the_network(command: Sequence[str], url: str, environ: Mapping[str, str]) -> None:
    for attempt in range(_TRIES):
        answer = _git(command, environ, check=False, timeout_s=_NETWORK_S)
        if answer.returncode == 0:
            return
        if "lock" not in answer.stderr:  # another one of us fetches the same
            break
        time.sleep(0.2 * (attempt + 1))
    mend = "a whole commit that was fetched before needs no network"
    raise SiteError(f"the repository {url} cannot be fetched: {_said(answer)}\n    {mend}")


# -- laying out ----------------------------------------------------------------------------------------------------


def _laid_out(git_dir: Path, revision: Revision, conf: Path, environ: Mapping[str, str]) -> tuple[Path, Revision]:
    if not _is_directory(git_dir, revision.commit, conf, environ):
        finding = Finding("--rev", f"has no {_inside(conf) or 'files'}", revision.short, mend="name a later revision")
        raise ConfigError(f"{revision.url} had no options there", [finding])
    place = _cache(environ) / "revisions" / _place_name(revision, conf)
    if not _is_whole(place):
        _lay_out(git_dir, revision, [conf, conf.parent / "templates"], place, environ)
    return place / "tree" / conf, revision


def _place_name(revision: Revision, conf: Path) -> str:
    """Unique, and of some use to a person who reads it in a message."""
    name = re.sub(r"[^\w.-]", "_", revision.url.rstrip("/").rpartition("/")[2].removesuffix(".git"))[:40]
    digest = _digest("\0".join([revision.url, _inside(conf), revision.commit]))
    return f"{name}-{revision.commit[:12]}-{digest[:12]}"


def _lay_out(
    git_dir: Path, revision: Revision, wanted: Sequence[Path], place: Path, environ: Mapping[str, str]
) -> None:
    """Through an index of its own: git then does to the files what a checkout does (line ends, large files)."""
    aside = _aside(place)
    try:
        tree = aside / "tree"
        tree.mkdir(parents=True)
        mine = {**environ, "GIT_INDEX_FILE": str(aside / "index")}
        git = ["--git-dir", str(git_dir), "--work-tree", str(tree)]
        _git([*git, "read-tree", revision.commit], mine)
        paths = [_inside(path) or "." for path in wanted]
        listed = _git(["-C", str(tree), *git, "ls-files", "-s", "-z", "--", *paths], mine).stdout
        entries = [entry.partition("\t") for entry in listed.split("\0") if entry]
        links = [name for head, _, name in entries if head.startswith("160000")]
        if links:
            rule = f"'{links[0]}' is a submodule, which is not followed"
            raise ConfigError(
                "the revision is not whole", [Finding("--rev", rule, revision.short, mend="check it out")]
            )
        names = "".join(f"{name}\0" for _, _, name in entries)
        _git(["-C", str(tree), *git, "checkout-index", "--force", "--quiet", "-z", "--stdin"], mine, text=names)
        (aside / "index").unlink(missing_ok=True)
        _write_marker(aside, revision, [name for _, _, name in entries])
        _put(aside, place)
    except OSError as error:
        raise SiteError(f"the revision {revision.short} cannot be laid out in {place}: {error.strerror}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_marker(place: Path, revision: Revision, names: Sequence[str]) -> None:
    files = []
    for name in names:
        path = place / "tree" / name
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o555)  # an edit here would be an edit of no revision
        status = path.lstat()
        files.append([name, status.st_size, status.st_mtime_ns])
    content = {"url": revision.url, "commit": revision.commit, "files": files}
    (place / REVISION_FILE).write_text(json.dumps(content), encoding="utf-8")


def _is_whole(place: Path) -> bool:
    """Whether all is there as it was written: caches are cleaned by age, and by people."""
    try:
        files = json.loads((place / REVISION_FILE).read_text(encoding="utf-8"))["files"]
        return all(
            (status := (place / "tree" / name).lstat()).st_size == size and status.st_mtime_ns == mtime
            for name, size, mtime in files
        )
    except (OSError, ValueError, KeyError):
        return False


def _aside(place: Path) -> Path:
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        mend = "set XDG_CACHE_HOME to a directory that you may write"
        raise SiteError(f"the cache {place.parent} cannot be written: {error.strerror}\n    {mend}") from error


def _put(aside: Path, place: Path) -> None:
    """Rename into place; whoever came first has put the same there, and what is broken makes room."""
    for _ in range(_TRIES):
        try:
            aside.rename(place)
        except OSError:
            if not place.exists():
                raise
        else:
            return
        if place.suffix == ".git" or _is_whole(place):
            return
        broken = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            place.rename(broken / "broken")
        except FileNotFoundError:
            continue  # another one of us has moved it
        finally:
            shutil.rmtree(broken, ignore_errors=True)


def _cache(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME") or "/nonexistent", ".cache")  # noqa: PTH118
    return Path(base) / "rompy-hydra"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


# -- git -----------------------------------------------------------------------------------------------------------


def _git(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    check: bool = True,
    text: str | None = None,
    timeout_s: float = _ANSWER_S,
) -> subprocess.CompletedProcess[str]:
    index = {k: v for k, v in environ.items() if k == "GIT_INDEX_FILE" and v.startswith(str(_cache(environ)))}
    settings = {k: v for k, v in environ.items() if k not in _HIDDEN}
    settings |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **index}
    try:
        answer = subprocess.run(
            ["git", *command],
            env=settings,
            input=text if text is not None else "",
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise MissingToolError("a revision needs git, which is not installed (or not on PATH)") from None
    except subprocess.TimeoutExpired:
        raise SiteError(f"git gave no answer within {timeout_s:.0f} s: git {' '.join(command)}") from None
    if check and answer.returncode != 0:
        raise SiteError(f"git {' '.join(command[:8])} …: {_said(answer)}")
    return answer


def _said(answer: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("fatal: ") if lines else ""
