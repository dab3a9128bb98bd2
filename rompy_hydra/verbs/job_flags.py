"""Flags of `run` and `resume` for a job that drives a sweep inside its own allocation; nothing is imported for them."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

KINDS = ("lsf", "pbs", "slurm")
"""The schedulers that a script can be written for: the keys of `sweep.job_script.WRITERS`."""


def add_job_flags(parser: argparse.ArgumentParser) -> None:
    """The flags for a job that drives a sweep inside its own allocation."""
    parser.add_argument(
        "--emit-script",
        choices=KINDS,
        metavar="KIND",
        help=f"start nothing; print the script of a job ({', '.join(KINDS)}) that runs it on its own nodes",
    )
    parser.add_argument("--nodes", type=_number, default=1, metavar="N", help="with --emit-script: nodes of the job")
    parser.add_argument(
        "--cpus-per-node", type=_number, metavar="N", help="with --emit-script: CPUs of a node (else as the site says)"
    )


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is no whole number from 1")
    return int(text)
