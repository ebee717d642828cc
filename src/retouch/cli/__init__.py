"""The command line. Exit status: 0 done, 1 a job failed, 2 wrong usage or input, 3 not reachable."""

from retouch.cli.app import main

__all__ = ["main"]
