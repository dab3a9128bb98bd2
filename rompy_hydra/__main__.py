"""`python -m rompy_hydra` is the same door as `rompy-hydra`."""

from rompy_hydra.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
