"""A cluster of a few lines of shell: sbatch, squeue, scontrol and scancel that run jobs here, at once and for real.

What Slurm does is tested with the real one; this one is for what happens around it: a full queue, a controller that is
silent, a driver that is killed again and again.  Its switches are files in its directory: `silent`, `full`, `refuse`,
`hold` (nothing starts), `slow` (sbatch takes a second after the job is in the queue).
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

SBATCH = """\
for switch in silent full refuse; do [ ! -e "$D/$switch" ] || { cat "$D/$switch" >&2; exit 1; }; done
n=1000
until mkdir "$D/job.$n" 2>/dev/null; do n=$((n + 1)); done
cat > "$D/job.$n/script.new"
sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$D/job.$n/script.new" > "$D/job.$n/last"
sed -n 's/^#SBATCH --comment=//p' "$D/job.$n/script.new" > "$D/job.$n/comment"
mv "$D/job.$n/script.new" "$D/job.$n/script"
[ -e "$D/hold" ] || setsid sh "$D/bin/start" "$n" > /dev/null 2>&1 < /dev/null &
[ ! -e "$D/slow" ] || sleep 1
echo "$n"
"""
START = """\
seq 0 "$(cat "$D/job.$1/last")" | xargs -P2 -I{} sh "$D/bin/task" "$1" {}
"""
TASK = """\
J=$D/job.$1
mkdir "$J/begun.$2" 2> /dev/null || exit 0
if [ ! -e "$J/cancelled.$2" ]; then
    export SLURM_JOB_ID=$(($1 * 10000 + $2)) SLURM_ARRAY_JOB_ID=$1 SLURM_ARRAY_TASK_ID=$2 SLURM_RESTART_COUNT=0
    export SLURM_CPUS_ON_NODE=1
    setsid sh "$J/script" > "$J/said.$2" 2>&1 < /dev/null &
    echo $! > "$J/pid.$2"
    wait $!
fi
touch "$J/done.$2"
"""
SQUEUE = """\
[ ! -e "$D/silent" ] || { cat "$D/silent" >&2; exit 1; }
echo . >> "$D/looks"
wanted=
for word; do case $word in --jobs=*) wanted=,${word#--jobs=},;; esac; done
for J in "$D"/job.*; do
    [ -e "$J/script" ] || continue
    n=${J##*.}
    case $wanted in ''|*,$n,*) ;; *) continue;; esac
    read -r comment < "$J/comment"
    read -r last < "$J/last"
    k=0
    while [ $k -le "$last" ]; do
        if [ ! -e "$J/done.$k" ]; then
            state=PENDING
            [ ! -e "$J/pid.$k" ] || state=RUNNING
            [ -e "$J/begun.$k" ] || [ ! -e "$J/cancelled.$k" ] || state=
            [ -z "$state" ] || echo "$((n * 10000 + k))|$n|$k|$state|$comment|here|None"
        fi
        k=$((k + 1))
    done
done
"""
SCONTROL = """\
case "$2" in
config) echo "MaxArraySize            = $(cat "$D/max_array_size")"; echo "MaxJobCount             = 10000";;
*) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;;
esac
"""
SCANCEL = """\
for word; do
    case $word in --*) continue;; esac
    echo "$word" >> "$D/cancelled"
    n=${word%%_*}
    case $word in
    *_*) parts=$(echo "${word#*_}" | tr -d '[]' | tr ',' ' ');;
    *) parts=0-$(cat "$D/job.$n/last");;
    esac
    for part in $parts; do
        for k in $(seq "${part%-*}" "${part#*-}"); do
            touch "$D/job.$n/cancelled.$k"
            [ ! -e "$D/job.$n/pid.$k" ] || [ -e "$D/job.$n/done.$k" ] || kill "$(cat "$D/job.$n/pid.$k")" 2>/dev/null
        done
    done
done
exit 0
"""


class FakeSlurm:
    """The cluster in a directory; `environ` makes a command find it."""

    def __init__(self, directory: Path, *, max_array_size: int = 1001) -> None:
        self.directory = directory
        (directory / "bin").mkdir(parents=True)
        (directory / "max_array_size").write_text(f"{max_array_size}\n")
        programs = {"sbatch": SBATCH, "squeue": SQUEUE, "scontrol": SCONTROL, "scancel": SCANCEL}
        for name, text in {**programs, "start": START, "task": TASK}.items():
            path = directory / "bin" / name
            path.write_text(f"#!/bin/sh\nD='{directory}'\n{text}")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}"}

    def switch(self, name: str, words: str = "") -> None:
        (self.directory / name).write_text(f"{words}\n")

    def unswitch(self, name: str) -> None:
        (self.directory / name).unlink()

    def start(self, job: int = 1000) -> None:
        """Let a job that was held start."""
        program = self.directory / "bin" / "start"
        subprocess.run(["sh", "-c", f"setsid sh '{program}' {job} > /dev/null 2>&1 < /dev/null &"], check=True)

    def jobs(self) -> list[Path]:
        return sorted(self.directory.glob("job.*"), key=lambda path: int(path.suffix[1:]))

    def tasks(self) -> list[int]:
        """How many tasks each job has."""
        return [int((job / "last").read_text()) + 1 for job in self.jobs()]

    def scripts(self) -> list[str]:
        return [(job / "script").read_text() for job in self.jobs()]

    def cancelled(self) -> list[str]:
        path = self.directory / "cancelled"
        return path.read_text().split() if path.exists() else []
