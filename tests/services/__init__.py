"""The real Docker engine and the real Slurm, started by hand for the tests.

    python3 -m tests.services start|status|stop

Nothing here needs more than the standard library, so that it runs before any virtual environment exists.
"""
