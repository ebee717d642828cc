"""The page of a folder of the outbox, made from the records that lie there."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from retouch import fitting, keys, sheets
from retouch.aws.storage import S3Inbox, S3Outbox
from retouch.cli.connection import Connection
from retouch.fitting import Thumbnail
from retouch.sheets import Record, Sheet
from retouch.steps.sheet import Buckets, look_at, read_record, whole, write_page

_LONGEST_SIDE: Final = 240
"""Of a thumbnail, in pixels: a page may hold a thousand jobs."""
_WORKERS: Final = 4
_AHEAD: Final = 8
"""Jobs that are looked at before their piece of the page is due."""
_RECORD: Final = "/job.json"

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Gallery:
    """A page that was made.

    Attributes:
        key: Where it lies in the outbox; None if it was written to `file`.
        of_one_job: Whether the folder is a job's own, so that the page is that job's.
        unreadable: Folders whose record is none.
    """

    folder: str
    records: Sequence[Record]
    key: str | None = None
    file: Path | None = None
    of_one_job: bool = False
    unreadable: Sequence[str] = ()

    @property
    def totals(self) -> tuple[int, dict[str, Decimal]]:
        """See `retouch.sheets.totals`."""
        return sheets.totals(self.records)

    @property
    def results(self) -> int:
        """How many images there are."""
        return sum(len(record.outputs) for record in self.records)

    @property
    def statuses(self) -> dict[str, int]:
        """How many jobs are in which state."""
        return dict(Counter(record.status for record in self.records).most_common())


def gallery(connection: Connection, folder: str, file: Path | None) -> Gallery | None:
    """Make the page of a folder, into the outbox or a file; None where the folder has no job.

    Raises:
        Conflict: somebody else wrote the same page meanwhile.
    """
    buckets = Buckets(
        S3Inbox(connection.s3, connection.inbox), S3Outbox(connection.s3, connection.outbox)
    )
    record = read_record(buckets.outbox, folder) if folder else None
    if record is not None:
        return _of_one_job(buckets, folder, record, file)
    key = keys.page_key(folder)
    over = buckets.outbox.current(key)
    found = [k.removesuffix(_RECORD) for k in connection.results(folder) if k.endswith(_RECORD)]
    if not found:
        return None
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    pool = ThreadPoolExecutor(_WORKERS)
    try:
        with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task("records", total=len(found))

            def counted(items: Iterable[Given]) -> Iterator[Given]:
                for item in items:
                    yield item
                    progress.advance(bar)

            places = sheets.in_order(found)
            read = counted(_ahead(pool, lambda place: read_record(buckets.outbox, place), places))
            records = dict(zip(places, read, strict=True))
            known = {place: one for place, one in records.items() if one is not None}
            progress.reset(bar, description="jobs", total=len(known))
            looked = counted(_ahead(pool, _looker(buckets), list(known.items())))
            pieces = sheets.gallery(folder, looked, list(known.values()))
            chunks = (piece.encode("utf-8", "replace") for piece in pieces)
            if file is None:
                buckets.outbox.put_stream(key, chunks, "text/html; charset=utf-8", over=over)
            else:
                _write(file, chunks)
    finally:
        pool.shutdown(cancel_futures=True)
    unreadable = tuple(place for place, one in records.items() if one is None)
    return Gallery(
        folder,
        list(known.values()),
        key=key if file is None else None,
        file=file,
        unreadable=unreadable,
    )


def _of_one_job(buckets: Buckets, folder: str, record: Record, file: Path | None) -> Gallery:
    if file is None:
        key = write_page(buckets, folder)
        return Gallery(folder, [record], key=key, of_one_job=True)
    page = sheets.page(whole(buckets, look_at(buckets, folder, record)))
    _write(file, [page.encode("utf-8", "replace")])
    return Gallery(folder, [record], file=file, of_one_job=True)


def _looker(buckets: Buckets) -> Callable[[tuple[str, Record]], Sheet]:
    """Looks at a job; images are fetched at once, and unpacked one at a time."""
    lock = Lock()

    def shrink(data: bytes, longest: int) -> Thumbnail:
        with lock:
            return fitting.thumbnail(data, longest)

    def look(found: tuple[str, Record]) -> Sheet:
        folder, record = found
        return look_at(buckets, folder, record, longest=_LONGEST_SIDE, shrink=shrink)

    return look


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Given], Made], items: Iterable[Given]
) -> Iterator[Made]:
    """What `work` makes of each item, in order; a few are begun before they are asked for."""
    begun: deque[Future[Made]] = deque()
    for item in items:
        begun.append(pool.submit(work, item))
        if len(begun) > _AHEAD:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _write(file: Path, chunks: Iterable[bytes]) -> None:
    """Write a file that appears whole."""
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as stream:
            stream.writelines(chunks)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
