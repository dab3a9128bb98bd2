"""`python3 -m tests.services start|status|stop [docker|slurm …]`: what `make services` calls."""

from __future__ import annotations

import argparse
import sys
import time

from tests.services import docker_engine, slurm
from tests.services.daemon import ServiceError, one_at_a_time

SERVICES = {"docker": docker_engine, "slurm": slurm}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.services", description=__doc__)
    parser.add_argument("verb", choices=["start", "status", "stop"])
    parser.add_argument(
        "names", nargs="*", metavar="SERVICE", help=f"one or more of {', '.join(SERVICES)} (default: all)"
    )
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(SERVICES):
        parser.error(f"unknown service {', '.join(sorted(unknown))}; there are {', '.join(SERVICES)}")
    failures = 0
    for name in asked.names or SERVICES:
        try:
            _do(asked.verb, name)
        except ServiceError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failures += 1
    if asked.verb == "start" and not failures:
        print("stop them with: python3 -m tests.services stop")
    return 1 if failures else 0


def _do(verb: str, name: str) -> None:
    service = SERVICES[name]
    if verb == "stop":
        with one_at_a_time():
            print(f"{name}: {'stopped' if service.stop() else 'nothing of ours was running'}")
        return
    began = time.monotonic()
    if verb == "start":
        with one_at_a_time():
            service.start()
    print(f"{name}: {service.status()} [{time.monotonic() - began:.1f} s]")


if __name__ == "__main__":
    sys.exit(main())
