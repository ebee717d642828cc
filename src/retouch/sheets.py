"""Contact sheets: a job, or a folder of jobs, as one HTML page that shows all there is to see.

Pure: from what `job.json` says and thumbnails to text. A page needs nothing but itself: thumbnails are
inside it, there is no script, and its content security policy forbids both scripts and requests. Links
are relative, so that they work where the outbox does, and in a copy of it.

Prompts, names and messages are other people's words. Every one is escaped, and links are encoded.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from html import escape
from importlib import resources
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retouch import keys, reading
from retouch.fitting import Thumbnail
from retouch.parts import MOST, folder_name
from retouch.registry import MIB, Json

WITH_A_PAGE: Final = (
    "SUCCEEDED", "PARTIAL", "FAILED", "REJECTED", "CANCELED", "UNRESOLVED",
)  # fmt: skip
"""Those in which a job gets its page. A person has to see an UNRESOLVED one too."""

_MEANS: Final = {
    "SUCCEEDED": ("good", "done"),
    "PARTIAL": ("fair", "partly done: some images are there, others are not"),
    "FAILED": ("bad", "failed: there is no image"),
    "REJECTED": ("bad", "refused: the drop has mistakes, nothing was sent and nothing spent"),
    "CANCELED": ("off", "cancelled"),
    "UNRESOLVED": ("bad", "in doubt: a person has to decide, see below"),
    "WAITING": ("on", "waiting for images"),
    "HELD": ("fair", "held back: over a limit of the budget"),
    "QUEUED": ("on", "waiting for its turn"),
    "RUNNING": ("on", "being worked on"),
}
"""How a state is coloured, and what it is for people."""


# --- what is read of job.json ---------------------------------------------------------------------


class _Read(BaseModel):
    """A part of `job.json`: as much as a page shows. What other versions of retouch add is no harm."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Finding(_Read):
    """A problem or a warning."""

    field: str = ""
    message: str = ""


class Failure(_Read):
    """Why something is missing."""

    code: str = ""
    message: str = ""


class Mended(_Read):
    """What was sent in place of an input; it lies in the outbox."""

    key: str
    changes: tuple[str, ...] = ()


class Picture(_Read):
    """An input, a mask or a result."""

    key: str | None = None
    url: str | None = None
    version_id: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    number: int | None = None
    mended: Mended | None = None
    made_by: str | None = None
    """The job whose result an input is; then it lies in the outbox."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.key or self.url or "?"


class _Sidecar(_Read):
    key: str = ""
    version_id: str | None = None


class _Request(_Read):
    call: str | None = None
    function: str | None = None
    prompt: str = ""
    negative_prompt: str | None = None
    parameters: dict[str, Json] = Field(default_factory=dict)


class _Times(_Read):
    created: str | None = None
    sent: str | None = None
    ended: str | None = None
    finished: str | None = None
    updated: str | None = None


class _Cost(_Read):
    images: int = 0
    price: str | None = None
    amount: str | None = None
    currency: str | None = None


class _Part(_Read):
    number: int | None = None
    of: int | None = None
    variant: str | None = None
    variants: tuple[str, ...] = ()
    step: int | None = None
    steps: int | None = None


class Record(_Read):
    """A `job.json`, as far as pages show it."""

    job_id: str
    status: str
    sidecar: _Sidecar = _Sidecar()
    missing: tuple[str, ...] = ()
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    labels: dict[str, Json] = Field(default_factory=dict)
    region: str | None = None
    model: str | None = None
    request: _Request | None = None
    seed: Json = None
    inputs: tuple[Picture, ...] = ()
    mask: Picture | None = None
    times: _Times = _Times()
    task_id: str | None = None
    outputs: tuple[Picture, ...] = ()
    text: Picture | None = None
    rewritten_prompts: tuple[str, ...] = ()
    image_failures: tuple[Failure, ...] = ()
    failure: Failure | None = None
    refusal: Failure | None = None
    doubt: str | None = None
    retry_of: str | None = None
    retried_as: str | None = None
    cost: _Cost | None = None
    part: _Part | None = None

    @property
    def of(self) -> str:
        """What the job is about: its first input, or the name of its sidecar."""
        if self.inputs and self.inputs[0].made_by is None:
            return self.inputs[0].name
        return self.sidecar.key.removesuffix(".json") or self.job_id

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All that a page shows, inputs first."""
        mask = () if self.mask is None else (self.mask,)
        return (*self.inputs, *mask, *self.outputs)


def record_in(data: bytes) -> Record | None:
    """The record in the bytes of a `job.json`, or None where they are none."""
    try:
        return Record.model_validate_json(data)
    except ValidationError:
        return None


def part_folders(record: Record) -> tuple[str, ...]:
    """The folders of all jobs of a record's drop, in order, its own among them; none where it is the
    only one, or where they cannot be told.
    """
    part = record.part
    if part is None or part.of is None or part.number is None or not record.sidecar.key:
        return ()
    if not 0 <= part.number < part.of <= MOST or part.of == 1:
        return ()
    names: Sequence[str | None] = part.variants
    if part.variant is None:
        names = [folder_name(None, step, part.steps) for step in range(1, part.of + 1)]
    base = keys.outbox_folder(record.sidecar.key)
    found = tuple(keys.part_folder(base, name) for name in names)
    return found if len(found) == part.of else ()


def of_one_drop(one: Record, other: Record) -> bool:
    """Whether two records tell of jobs of the same version of the same sidecar."""
    return (
        one.sidecar == other.sidecar
        and one.part is not None
        and other.part is not None
        and one.part.of == other.part.of
    )


# --- what is shown --------------------------------------------------------------------------------

Shown = Thumbnail | str
"""A thumbnail, or words in its place that say why there is none."""


@dataclass(frozen=True)
class Sheet:
    """A job to be shown.

    Attributes:
        folder: Where its record lies in the outbox.
        pictures: For each of the record's pictures what is shown of it.
        text: What the model wrote, in reading order: texts, and the keys of images, for which the
            second is True.
        parts: The folders of all jobs of its drop, in order, each with whether a page is there; none
            where they are not known.
    """

    folder: str
    record: Record
    pictures: Mapping[Picture, Shown] = field(default_factory=dict)
    text: Sequence[tuple[str, bool]] = ()
    parts: Sequence[tuple[str, bool]] = ()


_CSS: Final = resources.files("retouch").joinpath("data/sheet.css").read_text("utf-8")

_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


def page(sheet: Sheet) -> str:
    """The contact sheet of one job."""
    record = sheet.record
    colour, means = _MEANS.get(record.status, ("on", "under way"))
    body = [
        "<header>",
        f'<p class="where" dir="auto">{_text(record.sidecar.key.rpartition("/")[0])}</p>',
        f'<h1 dir="auto">{_text(_title(sheet))}</h1>',
        f'<p><span class="state {colour}">{_text(record.status)}</span> '
        f'<span class="says">{_text(means)}</span></p>',
        "</header>",
        _navigation(sheet),
        *_news(record),
        *_sides(sheet),
        *_words(sheet),
        *_asked(record),
        *_facts(sheet),
    ]
    return "".join(_document(f"{_title(sheet)} – {record.status}", body))


def renewed(html: str, sheet: Sheet) -> str:
    """A page with the navigation that it would have now, of which it needs no pictures."""
    before, begins, rest = html.partition(_NAV)  # people's words are escaped, so it is ours
    _, ends, after = rest.partition(_END_OF_NAV)
    made = _navigation(sheet)
    return f"{before}{made}{after}" if begins and ends and made else html


def gallery(prefix: str, sheets: Iterable[Sheet], records: Sequence[Record]) -> Iterator[str]:
    """The page of a folder, in pieces; `records` are those of all sheets, in their order.

    Each sheet is asked for when its piece is due, so that one at a time is in memory.
    """
    name = prefix.rpartition("/")[2] or "outbox"
    yield from _head(f"{name} – {counted(len(records), 'job')}")
    where = prefix.rpartition("/")[0]
    yield f'<header><p class="where" dir="auto">{_text(where)}</p><h1 dir="auto">{_text(name)}</h1>'
    yield from _summary(records)
    yield "</header>"
    yield from _in_trouble(records)
    yield '<section class="jobs" aria-label="jobs">'
    for number, sheet in enumerate(sheets, 1):
        yield from _card(sheet, prefix, number)
    yield "</section>"
    yield _FOOT


# --- the frame ------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """Anybody's words, as text."""
    return escape(str(value), quote=True)


def _head(title: str) -> Iterator[str]:
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # The address of a page may sign access to it.
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">\n'
        f'<link rel="icon" href="data:,">\n<title>{_text(title)}</title>\n'
        f"<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
    )


_FOOT: Final = "\n</main>\n</body>\n</html>\n"


def _document(title: str, body: Iterable[str]) -> Iterator[str]:
    yield from _head(title)
    yield "\n".join(body)
    yield _FOOT


def _title(sheet: Sheet) -> str:
    record = sheet.record
    name = record.sidecar.key.removesuffix(".json").rpartition("/")[2]
    part = _part(record)
    return f"{name or record.job_id}{part and f', {part}'}"


def _part(record: Record) -> str:
    """Which of the jobs of one drop it is; empty where it is the only one."""
    part = record.part
    if part is None:
        return ""
    said = [] if part.variant is None else [part.variant]
    if part.step is not None:
        said.append(f"step {part.step}" + (f" of {part.of}" if part.of else ""))
    return ", ".join(said)


def _with_part(record: Record) -> str:
    """What a job is called among others: its sidecar, and its part of that."""
    name = record.sidecar.key.removesuffix(".json") or record.job_id
    return ", ".join(filter(None, (name, _part(record))))


_NAV: Final = '<nav class="parts"'
_END_OF_NAV: Final = "</nav>"


def _navigation(sheet: Sheet) -> str:
    """Which of its drop's jobs it is, and the way to the others that have a page."""
    part = sheet.record.part
    if part is None or part.number is None or part.of is None or part.of < 2:
        return ""
    kind = "Variant" if part.variant is not None else "Step"
    items = []
    for number, (folder, there) in enumerate(sheet.parts):
        name = _name_of_part(sheet.record, number)
        if number == part.number:
            items.append(f'<li><b aria-current="page">{name}</b></li>')
        elif there:
            href = escape(keys.href(keys.page_key(folder), sheet.folder), quote=True)
            items.append(f'<li><a href="{href}">{name}</a></li>')
        else:
            items.append(f'<li><span class="dim">{name}: no page yet</span></li>')
    listed = f"<ol>{''.join(items)}</ol>" if items else ""
    return (
        f'{_NAV} aria-label="{kind}s of this drop"><p>{kind} {part.number + 1} of {part.of}</p>'
        f"{listed}{_END_OF_NAV}"
    )


def _name_of_part(record: Record, number: int) -> str:
    """What a job of a drop is called among the others, as HTML."""
    part = record.part
    if part is not None and number < len(part.variants):
        return f"<bdi>{_text(part.variants[number])}</bdi>"
    last = part is not None and number + 1 == part.of
    return f"Step {number + 1}" + (" (final result)" if last else "")


# --- pictures -------------------------------------------------------------------------------------


def _what_made(record: Record) -> str:
    function = record.request.function if record.request is not None else None
    return " ".join(filter(None, (record.model, function)))


def _alt_of_result(record: Record, picture: Picture) -> str:
    number = f" {picture.number}" if picture.number is not None else ""
    return ", ".join(filter(None, (f"result{number} of {record.of}", _what_made(record))))


def _shown(sheet: Sheet, picture: Picture, alt: str) -> str:
    """The thumbnail, or the words in its place."""
    found = sheet.pictures.get(picture, "it was not looked at")
    if isinstance(found, str):
        return f'<span class="none"><span>no picture here: {_text(found)}</span></span>'
    data = base64.b64encode(found.data).decode("ascii")
    return (
        f'<img src="data:image/webp;base64,{data}" alt="{_text(alt)}" width="{found.width}" '
        f'height="{found.height}">'
    )


def _figure(sheet: Sheet, picture: Picture, alt: str, caption: str, at: str) -> str:
    """A picture with what is to be said of it; it leads to the file where that lies in the outbox.

    `at` is the folder that the page lies in, and `caption` is HTML.
    """
    shown = _shown(sheet, picture, alt)
    target = _target(sheet.record, picture, at)
    if target is not None:
        # Where words stand in a picture's place, they are no name for a link.
        shown = f'<a class="frame" href="{target}" aria-label="{_text(alt)}, full size">{shown}</a>'
    else:
        shown = f'<span class="frame">{shown}</span>'
    kind = ' class="mask"' if picture == sheet.record.mask else ""
    return f"<figure{kind}>{shown}<figcaption>{caption}</figcaption></figure>"


def _target(record: Record, picture: Picture, at: str) -> str | None:
    """Where the file itself is, as far as the page can lead there. Inputs lie in another bucket."""
    in_outbox = picture.made_by is not None or picture in record.outputs
    if picture.key is None or not in_outbox:
        return None
    return escape(keys.href(picture.key, at), quote=True)


def _measures(picture: Picture) -> str:
    said = []
    if picture.width and picture.height:
        said.append(f"{picture.width}×{picture.height}")
    if picture.size is not None:
        large = picture.size >= MIB / 10
        said.append(f"{picture.size / MIB:.1f} MB" if large else f"{picture.size / 1024:.1f} KB")
    return " · ".join(said)


def _caption(sheet: Sheet, picture: Picture, label: str) -> str:
    name = picture.name.rpartition("/")[2] if picture.key is not None else picture.name
    lines = [f'<b>{_text(label)}</b> <span dir="auto">{_text(name)}</span>']
    if measures := _measures(picture):
        lines.append(f'<span class="dim">{measures}</span>')
    if picture.made_by is not None:
        lines.append('<span class="dim">the result of an earlier step</span>')
    if picture.mended is not None:
        href = escape(keys.href(picture.mended.key, sheet.folder), quote=True)
        lines.append(
            f'<span class="dim">sent <a href="{href}">mended</a>: '
            f"{_text(', '.join(picture.mended.changes))}</span>"
        )
    return "<br>".join(lines)


def _inputs(record: Record) -> Iterator[tuple[Picture, str, str]]:
    """Inputs and mask, each with its label and its alternative text."""
    for number, picture in enumerate(record.inputs, 1):
        label = "Input" if len(record.inputs) == 1 else f"Input {number}"
        yield picture, label, f"{label.lower()} {picture.name}"
    if record.mask is not None:
        alt = f"mask {record.mask.name}: white is edited, black is kept"
        yield record.mask, "Mask", alt


def _sides(sheet: Sheet) -> Iterator[str]:
    """Input and results side by side."""
    record = sheet.record
    inputs = [
        _figure(sheet, picture, alt, _caption(sheet, picture, label), sheet.folder)
        for picture, label, alt in _inputs(record)
    ]
    in_text = {key for key, is_image in sheet.text if is_image}
    results = [_result(sheet, picture) for picture in record.outputs if picture.key not in in_text]
    if not inputs and not results:
        return
    several = len(results) > 2 or (len(results) > 1 and not inputs)
    many = "many" if len(results) > 1 and inputs else ""
    both = "sides" if inputs and results else "" if several else "alone"
    yield f'<div class="{both} {many}">'
    for name, side in (("Input", inputs), ("Results" if len(results) > 1 else "Result", results)):
        if side:
            grid = "several" if side is results and several else "pair" if side is results else ""
            yield f'<section><h2>{name}</h2><div class="grid {grid}">{"".join(side)}</div></section>'
    yield "</div>"


def _result(sheet: Sheet, picture: Picture) -> str:
    label = "Result" if picture.number is None else f"Result {picture.number}"
    alt = _alt_of_result(sheet.record, picture)
    return _figure(sheet, picture, alt, _caption(sheet, picture, label), sheet.folder)


def _words(sheet: Sheet) -> Iterator[str]:
    """What the model wrote, with its images where they belong."""
    if not sheet.text:
        return
    results = {picture.key: picture for picture in sheet.record.outputs}
    yield '<section class="words"><h2>What the model wrote</h2>'
    for part, is_image in sheet.text:
        if is_image and part in results:
            yield _result(sheet, results[part])
        else:
            yield from _paragraphs(part)
    yield "</section>"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if (remark := reading.remark_in(paragraph)) is not None:
            said, why = remark
            yield f'<p class="note fair" dir="auto"><b>{_text(said)}</b> {_text(why)}</p>'
        elif paragraph.strip():
            yield f'<p dir="auto">{_text(paragraph.rstrip())}</p>'


# --- words ----------------------------------------------------------------------------------------


def _note(colour: str, title: str, lines: Sequence[str]) -> str:
    """Something that must not be overlooked; `lines` are HTML."""
    if len(lines) == 1:
        said = f'<p dir="auto">{lines[0]}</p>'
    else:
        said = "<ul>" + "".join(f'<li dir="auto">{line}</li>' for line in lines) + "</ul>"
    return f'<section class="note {colour}"><h2>{_text(title)}</h2>{said}</section>'


def _failed(failure: Failure) -> str:
    code = f"<code>{_text(failure.code)}</code>" if failure.code else ""
    # Apart from the code: a character that turns the direction of writing stays within its text.
    message = f"<bdi>{_text(failure.message)}</bdi>" if failure.message else ""
    return ": ".join(filter(None, (code, message)))


def _found(finding: Finding) -> str:
    return _failed(Failure(code=finding.field, message=finding.message))


def _news(record: Record) -> Iterator[str]:
    """What is not as it should be."""
    if record.missing:
        yield _note("fair", "Still missing", [_text(name) for name in record.missing])
    if record.problems:
        yield _note("bad", "What is wrong", [_found(problem) for problem in record.problems])
    if record.failure is not None:
        colour = "off" if record.status == "CANCELED" else "bad"
        yield _note(colour, "Why", [_failed(record.failure)])
    if record.refusal is not None and record.status not in WITH_A_PAGE:
        yield _note("fair", "Put off", [_failed(record.refusal)])
    if record.image_failures:
        title = f"{counted(len(record.image_failures), 'image')} missing"
        yield _note("fair", title, [_failed(failure) for failure in record.image_failures])
    if record.doubt is not None:
        yield _note("bad", "In doubt", [_text(record.doubt)])
    if record.warnings:
        yield _note("fair", "Warnings", [_found(warning) for warning in record.warnings])


def _asked(record: Record) -> Iterator[str]:
    """What was asked for."""
    request = record.request
    if request is None:
        return
    yield "<section><h2>What was asked</h2>"
    if request.prompt:
        yield f'<blockquote dir="auto">{_text(request.prompt)}</blockquote>'
    if request.negative_prompt:
        yield '<p class="dim">and not</p>'
        yield f'<blockquote dir="auto">{_text(request.negative_prompt)}</blockquote>'
    for prompt in dict.fromkeys(record.rewritten_prompts):
        yield '<p class="dim">as the provider rewrote it</p>'
        yield f'<blockquote dir="auto">{_text(prompt)}</blockquote>'
    yield from _list(
        ("Model", _text(record.model) if record.model else ""),
        ("Function", _text(request.function) if request.function else ""),
        ("Region", _text(record.region) if record.region else ""),
        ("Seed", _text(record.seed) if record.seed is not None else ""),
        *(
            (name, f"<code>{_text(_plain(value))}</code>")
            for name, value in request.parameters.items()
            if name != "seed"
        ),
    )
    yield "</section>"


def _plain(value: Json) -> str:
    """A value of a parameter as a person writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _list(*entries: tuple[str, str]) -> Iterator[str]:
    """Names and values, which are HTML; those without a value are left out."""
    said = [
        f'<dt>{_text(name)}</dt><dd dir="auto">{value}</dd>' for name, value in entries if value
    ]
    if said:
        yield f"<dl>{''.join(said)}</dl>"


def _facts(sheet: Sheet) -> Iterator[str]:
    record, at = sheet.record, sheet.folder
    times = record.times
    yield "<section><h2>When, and at what cost</h2>"
    yield from _list(
        ("Dropped", _time(times.created)),
        ("Sent", _time(times.sent)),
        ("Finished", _time(times.finished)),
        ("Took", _duration(times.created, times.finished)),
        ("Cost", _text(_price(record.cost))),
        ("Part of a drop", _text(_part(record))),
    )
    yield "</section>"
    if record.labels:
        yield "<section><h2>Labels</h2>"
        yield from _list(*((name, _text(_plain(value))) for name, value in record.labels.items()))
        yield "</section>"
    links = [f'<a href="{escape(keys.href(keys.record_key(at), at))}">all details (job.json)</a>']
    if record.text is not None and record.text.key is not None:
        href = escape(keys.href(record.text.key, at), quote=True)
        links.append(f'<a href="{href}">the text (Markdown)</a>')
    said = [f"job {_text(record.job_id)}"]
    if record.task_id:
        said.append(f"task {_text(record.task_id)}")
    if record.retry_of:
        said.append(f"repeats job {_text(record.retry_of)}")
    if record.retried_as:
        said.append(f"repeated as job {_text(record.retried_as)}")
    yield f"<footer><p>{' · '.join(links)}</p><p>{' · '.join(said)}</p></footer>"


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None


def _time(text: str | None) -> str:
    moment = _moment(text)
    if text is None or moment is None:
        return ""
    return f'<time datetime="{_text(text)}">{moment:%Y-%m-%d %H:%M:%S} UTC</time>'


def _duration(start: str | None, end: str | None) -> str:
    first, last = _moment(start), _moment(end)
    if first is None or last is None:
        return ""
    try:
        seconds = max(0.0, (last - first).total_seconds())
    except TypeError:  # one of them says no zone
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def counted(count: int, what: str) -> str:
    """So many of something, in words."""
    return f"{count} {what}" if count == 1 else f"{count:,} {what}s"


def _price(cost: _Cost | None) -> str:
    if cost is None:
        return ""
    billed = f"{counted(cost.images, 'image')} billed"
    if cost.amount is None:
        return f"{billed}, no price is known" if cost.images else billed
    return f"{billed}, {cost.amount} {cost.currency or ''}".rstrip()


# --- a folder -------------------------------------------------------------------------------------


def in_order(folders: Iterable[str]) -> list[str]:
    """Folders as a person sorts them: `img-2` before `img-10`."""

    def natural(folder: str) -> list[tuple[int, str]]:
        pieces = re.split(r"([0-9]{1,18})", folder)
        return [
            (int(piece), "") if odd % 2 else (0, piece.casefold())
            for odd, piece in enumerate(pieces)
        ]

    return sorted(folders, key=lambda folder: (natural(folder), folder))


def totals(records: Iterable[Record]) -> tuple[int, dict[str, Decimal]]:
    """Images billed, and what they cost by currency."""
    images = 0
    sums: dict[str, Decimal] = {}
    for record in records:
        if (cost := record.cost) is None:
            continue
        images += cost.images
        if cost.amount is not None and cost.currency is not None:
            try:
                amount = Decimal(cost.amount)
            except InvalidOperation:
                continue
            sums[cost.currency] = sums.get(cost.currency, Decimal(0)) + amount
    return images, sums


def _summary(records: Sequence[Record]) -> Iterator[str]:
    yield '<p class="sum">'
    for status, count in Counter(record.status for record in records).most_common():
        colour, _ = _MEANS.get(status, ("on", ""))
        yield f'<span class="state {colour}">{count:,} {_text(status)}</span> '
    yield "</p>"
    images, sums = totals(records)
    made = sum(len(record.outputs) for record in records)
    money = "".join(f", {amount:,.2f} {_text(currency)}" for currency, amount in sums.items())
    yield (
        f"<p>{counted(len(records), 'job')}, {counted(made, 'result')}, "
        f"{counted(images, 'image')} billed{money}</p>"
    )


_IN_TROUBLE: Final = ("FAILED", "REJECTED", "UNRESOLVED", "PARTIAL")


def _in_trouble(records: Sequence[Record]) -> Iterator[str]:
    """Jobs that ended otherwise than they should have, unless another repeats them."""
    lines = [
        f'<a href="#job-{number}"><span dir="auto">{_text(_with_part(record))}</span></a> '
        f"{_text(record.status)}"
        for number, record in enumerate(records, 1)
        if record.status in _IN_TROUBLE and record.retried_as is None
    ]
    if lines:
        yield _note("bad", "To be looked at", lines)


def _card(sheet: Sheet, prefix: str, number: int) -> Iterator[str]:
    """One job in the page of a folder."""
    record = sheet.record
    colour, _ = _MEANS.get(record.status, ("on", ""))
    name = sheet.folder.removeprefix(f"{prefix}/") if prefix else sheet.folder
    href = escape(keys.href(keys.page_key(sheet.folder), prefix), quote=True)
    title = f'<span dir="auto">{_text(name)}</span>'
    if record.status in WITH_A_PAGE:  # the others have no page yet
        title = f'<a href="{href}">{title}</a>'
    yield f'<article class="job" id="job-{number}"><header><h3>{title}</h3>'
    yield f'<span class="state {colour}">{_text(record.status)}</span></header>'
    strip = [
        _figure(sheet, picture, alt, _text(label), prefix)
        for picture, label, alt in _inputs(record)
    ]
    for picture in record.outputs:
        label = "Result" if picture.number is None else f"Result {picture.number}"
        strip.append(_figure(sheet, picture, _alt_of_result(record, picture), label, prefix))
    if strip:
        yield f'<div class="strip">{"".join(strip)}</div>'
    if record.request is not None and record.request.prompt:
        yield f'<blockquote dir="auto">{_text(record.request.prompt)}</blockquote>'
    yield from _why(record)
    said = [_part(record), _what_made(record), _price(record.cost)]
    yield f'<p class="dim">{" · ".join(_text(one) for one in said if one)}</p></article>\n'


def _why(record: Record) -> Iterator[str]:
    reasons = [_found(problem) for problem in record.problems]
    reasons += [_failed(one) for one in (record.failure, *record.image_failures) if one is not None]
    if record.doubt is not None:
        reasons.append(_text(record.doubt))
    if record.missing:
        reasons.append(f"still missing: {_text(', '.join(record.missing))}")
    for reason in dict.fromkeys(reasons):
        yield f'<p dir="auto">{reason}</p>'
