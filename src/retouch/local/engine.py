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
from typing import Any, Final

_RELEASE_SECONDS: Final = 5.0


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(os.getpgid(0), signal.SIGTERM)


def _release_bodies() -> None:
    """Let go of the bytes of objects that are on disk.

    The engine does so itself for what a bucket shows, but not for the same bytes in its list of
    versions, and every bucket here has versions. It reads from disk what is not in memory there.
    """
    from ministack.services import s3

    while True:
        time.sleep(_RELEASE_SECONDS)
        for (bucket, key), versions in list(s3._object_versions.items()):
            for entry in list(versions):
                if entry.get("data") is not None and _on_disk(s3, bucket, key, entry):
                    entry["data"] = None


def _on_disk(s3: Any, bucket: str, key: str, entry: dict[str, Any]) -> bool:
    version = entry["version_id"]
    if s3._version_file_exists(bucket, key, version):
        return True
    objects = (s3._buckets.get(bucket) or {"objects": {}})["objects"]
    current = objects.get(key)
    # Its body is taken out of memory once it has been written.
    return (
        current is not None
        and (current.get("version_id") or "null") == version
        and current.get("body") is None
    )


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
    threading.Thread(target=_release_bodies, daemon=True).start()
    if options.keep is not None:
        asyncio.run(_serve_kept(options.keep))
        return
    sys.argv = ["ministack"]
    from ministack.app import main as serve

    serve()


if __name__ == "__main__":
    main()
