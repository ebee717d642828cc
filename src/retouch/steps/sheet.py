"""sheet: make a job's contact sheet from what lies in the two buckets.

It reads no table and changes no job, so that a picture that cannot be shown harms none. The record in a
folder says whose the folder is: a page is made of that record, at the exact versions that it names, and
written only over what lay there before the record was read. So of two that are made at once the one of
the newer record stays, and an older job's never covers a newer one's.

The pages of one drop lead to each other. A page leads only to those of jobs that have ended; the last
to be made sees that all have, and lets the others lead on too. That changes nothing else of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from retouch import fitting, keys, reading
from retouch.errors import Conflict
from retouch.fitting import Thumbnail
from retouch.imaging import FIT_MAX_BYTES, UnreadableImage, shown_size
from retouch.ports import App, Inbox, Outbox
from retouch.sheets import (
    WITH_A_PAGE,
    Picture,
    Record,
    Sheet,
    Shown,
    of_one_drop,
    page,
    part_folders,
    record_in,
    renewed,
)

LONGEST_SIDE: Final = 480
"""Of a thumbnail, in pixels."""
_TRIES: Final = 5
_SPARE_SECONDS: Final = 15.0
"""One picture at its slowest, and writing the page."""
_LEFT_OUT: Final = "there was no time for it; `retouch gallery` makes the page anew"


@dataclass(frozen=True)
class Buckets:
    """Where all of it lies."""

    inbox: Inbox
    outbox: Outbox


def sheet(app: App, folder: str, job_id: str, deadline: float) -> str | None:
    """Write the page of a job that tells of itself in `folder`, or of the place below it that the job
    was given once another took the folder over; its key, or None where the job has neither any more.

    What there is no time for until `deadline` (Unix seconds) is left out and said to be.

    Raises:
        Conflict: others write to the same place again and again.
    """
    buckets = Buckets(app.inbox, app.outbox)

    def in_time() -> bool:
        return app.clock.now() < deadline - _SPARE_SECONDS

    for place in (folder, f"{folder}/{job_id}"):
        if (key := write_page(buckets, place, job_id, in_time=in_time)) is not None:
            # Only now: of two that end at once, neither may have seen the other's end before.
            _lead_on(buckets, place, in_time)
            return key
    return None


def write_page(
    buckets: Buckets,
    folder: str,
    job_id: str | None = None,
    *,
    in_time: Callable[[], bool] = lambda: True,
) -> str | None:
    """Write the page of the job whose record lies in `folder`; its key.

    None where there is no record, or with `job_id`, another job's.

    Raises:
        Conflict: as `sheet`.
    """
    key = keys.page_key(folder)
    for tries_left in reversed(range(_TRIES)):
        # Before the record is read: see above.
        over = buckets.outbox.current(key)
        record = read_record(buckets.outbox, folder)
        if record is None or job_id not in (None, record.job_id):
            return None
        made = page(whole(buckets, look_at(buckets, folder, record, in_time=in_time)))
        body = made.encode("utf-8", "replace")
        try:
            buckets.outbox.put_stream(key, iter((body,)), "text/html; charset=utf-8", over=over)
        except Conflict:
            if not tries_left:
                raise
        else:
            return key
    raise AssertionError("not reached")


def whole(buckets: Buckets, sheet: Sheet) -> Sheet:
    """A sheet that knows which other jobs of its drop have a page."""
    folders = part_folders(sheet.record)
    if sheet.folder not in folders:
        return sheet  # another drop has taken the folders over; where the others went is not known
    parts = [(folder, _has_page(buckets.outbox, sheet.record, folder)) for folder in folders]
    return replace(sheet, parts=parts)


def _has_page(outbox: Outbox, record: Record, folder: str) -> bool:
    """Whether a job of a record's drop has come so far, in that folder, that it has a page."""
    other = read_record(outbox, folder)
    return other is not None and of_one_drop(record, other) and other.status in WITH_A_PAGE


def _lead_on(buckets: Buckets, folder: str, in_time: Callable[[], bool]) -> None:
    """Once all jobs of a drop have ended, let each of their pages lead to all others.

    Raises:
        Conflict: as `sheet`.
    """
    record = read_record(buckets.outbox, folder)
    parts = () if record is None else whole(buckets, Sheet(folder, record)).parts
    if not all(there for _, there in parts):
        return
    for place, _ in parts:
        if in_time():
            _renew(buckets.outbox, place, parts)


def _renew(outbox: Outbox, folder: str, parts: Sequence[tuple[str, bool]]) -> None:
    key = keys.page_key(folder)
    for tries_left in reversed(range(_TRIES)):
        over = outbox.current(key)
        record, data = read_record(outbox, folder), outbox.read(key, None)
        if over is None or record is None or data is None:
            return  # whoever makes it sees that all have ended
        html = data.decode("utf-8", "replace")
        made = renewed(html, Sheet(folder, record, parts=parts))
        if made == html:
            return
        body = made.encode("utf-8", "replace")
        try:
            outbox.put_stream(key, iter((body,)), "text/html; charset=utf-8", over=over)
        except Conflict:
            if not tries_left:
                raise
        else:
            return


def read_record(outbox: Outbox, folder: str) -> Record | None:
    """The record that lies in a folder now."""
    data = outbox.read(keys.record_key(folder), None)
    return None if data is None else record_in(data)


def look_at(
    buckets: Buckets,
    folder: str,
    record: Record,
    *,
    longest: int = LONGEST_SIDE,
    in_time: Callable[[], bool] = lambda: True,
    shrink: Callable[[bytes, int], Thumbnail] = fitting.thumbnail,
) -> Sheet:
    """A job with thumbnails of at most `longest` pixels a side; one image at a time is in memory."""
    pictures: dict[Picture, Shown] = {}
    # What is looked for most comes first, should the time be short.
    for picture in (*record.outputs, *record.inputs, *filter(None, (record.mask,))):
        if picture not in pictures:
            pictures[picture] = (
                _shown(buckets, record, picture, lambda data: shrink(data, longest))
                if in_time()
                else _LEFT_OUT
            )
    return Sheet(folder, record, pictures, _text(buckets.outbox, record))


def _shown(
    buckets: Buckets, record: Record, picture: Picture, shrink: Callable[[bytes], Thumbnail]
) -> Shown:
    """The thumbnail of a picture, or why there is none."""
    if picture.key is None:
        return "it was passed on by its address, and is not read here"
    if picture.size is not None and picture.size > FIT_MAX_BYTES:
        return (
            f"the file has {shown_size(picture.size)}; at most {shown_size(FIT_MAX_BYTES)} are read"
        )
    if picture in record.outputs or picture.made_by is not None:
        data = buckets.outbox.read(picture.key, picture.version_id)
    elif picture.version_id is not None:
        data = buckets.inbox.read(picture.key, picture.version_id)
    else:
        return "it is not known which version of it was meant"
    if data is None:
        return "this version of it has been deleted"
    try:
        return shrink(data)
    except UnreadableImage as error:
        return f"it is {error}"


def _text(outbox: Outbox, record: Record) -> list[tuple[str, bool]]:
    """What the model wrote, in reading order."""
    text = record.text
    if text is None or text.key is None:
        return []
    data = outbox.read(text.key, text.version_id)
    if data is None:
        return [("(this version of the text has been deleted)", False)]
    folder = text.key.rpartition("/")[0]
    images = [output.key for output in record.outputs if output.key is not None]
    return reading.parts_of(data.decode("utf-8", "replace"), folder, images)
