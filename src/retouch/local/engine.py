"""The embedded engine's own process: ministack on loopback, holding the stack's lock while it lives.

The lock is how others know that the stack runs: the system drops it with the process, however that
ends. With `--parent-pid` the engine ends when that process does, so that an interrupted demo leaves
nothing behind. With `--keep` its tables outlive it: see `retouch.local.keeping`.

Its buckets lie on disk (`S3_PERSIST`), so that a folder of photographs does not fill the memory.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGTERM)


def bodies_stay_on_disk() -> None:
    """Have the engine read the bytes of objects from disk whenever they are wanted.

    It does so for what it finds at its start. Of what is written later it holds every version's bytes
    in memory until it ends, beside the copy on disk: a whole folder of photographs.
    """
    from ministack.services import s3

    entered = s3._version_entry_from_record

    def without_bytes(
        record: dict[str, object], version_id: str, data: bytes | None
    ) -> dict[str, object]:
        return {**entered(record, version_id, data), "data": None}

    s3._version_entry_from_record = without_bytes


async def _serve_kept(path: Path) -> None:
    """Serve the engine as its own `main` does, with its tables kept."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    from retouch.local.keeping import Kept

    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.keep_alive_timeout = 75
    kept = Kept(app, path)
    try:
        await serve(kept, config)  # type: ignore[arg-type]  # its types are its own
    finally:
        kept.close()


def main() -> None:
    """Run until stopped; exit status 3 if the stack's lock is taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--parent-pid", type=int)
    parser.add_argument("--keep", type=Path, help="a file that the tables are kept in")
    options = parser.parse_args()
    lock = options.lock.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(3)
    # For `retouch down`, should whoever started us die before writing down where we are.
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    # Workers must not inherit the lock: it has to go with this process alone.
    os.set_inheritable(lock.fileno(), False)
    if options.parent_pid is not None:
        watch = threading.Thread(target=_end_with, args=(options.parent_pid,), daemon=True)
        watch.start()
    bodies_stay_on_disk()
    if options.keep is not None:
        asyncio.run(_serve_kept(options.keep))
        return
    sys.argv = ["ministack"]
    from ministack.app import main as serve

    serve()


if __name__ == "__main__":
    main()
