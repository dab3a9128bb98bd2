"""A config repository in git, with revisions, for the tests of `--rev`, `sources` and `diff`."""

from __future__ import annotations

import subprocess
from pathlib import Path

OPS = """\
# @package _global_
defaults:
  - override /model: command
  - _self_
backend:
  command: [echo, "${vars.greeting}"]
vars:
  greeting: GREETING
"""


def git(directory: Path, *words: str) -> str:
    """What git answers."""
    done = subprocess.run(["git", "-C", str(directory), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(root: Path, **files: str) -> Path:
    """Write `group__option="text"` as `group/option.yaml`."""
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def commit(root: Path, tag: str | None = None) -> str:
    """Commit all there is; the commit."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", tag or "more", "--allow-empty")
    if tag:
        git(root, "tag", tag)
    return git(root, "rev-parse", "HEAD")


def ocean(root: Path) -> Path:
    """Two revisions, v1.2 and v1.3: another greeting, another limit, another template; the work tree is at v1.3."""
    root.mkdir(parents=True)
    git(root, "init", "-q")
    options = write(root / "conf", env__ops=OPS.replace("GREETING", "hello"))
    write(options, model__mine="defaults: [/template/mine, _self_]\n")
    write(options, backend__local="defaults: [/packaged/backend/local, _self_]\ntimeout: 120\n")
    template = root / "templates" / "mine"
    (template / "workspace").mkdir(parents=True)
    (template / "template.yaml").write_text(
        "parameters:\n  depth: {type: float, default: 10}\nmodel:\n  command: [cat, input.txt]\n"
    )
    (template / "workspace" / "input.txt.j2").write_text("depth {{ parameters.depth }}\n")
    commit(root, "v1.2")
    (options / "env" / "ops.yaml").write_text(OPS.replace("GREETING", "ho"))
    (options / "backend" / "local.yaml").write_text("defaults: [/packaged/backend/local, _self_]\ntimeout: 240\n")
    (template / "workspace" / "input.txt.j2").write_text("depth {{ parameters.depth }}\nmore\n")
    commit(root, "v1.3")
    return root
