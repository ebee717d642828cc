"""Contact sheets: everything is said, nothing that people wrote is obeyed, nothing is loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urljoin

import pytest

from retouch import sheets
from retouch.fitting import thumbnail
from retouch.keys import outbox_folder, part_folder
from retouch.sheets import Record, Sheet, in_order, totals
from tests.pages import FOLDER, HOSTILE, Page, drawing, record, said, sheet


def shown(found: Sheet) -> Page:
    return Page(sheets.page(found))


def test_a_page_shows_input_and_results_and_says_what_each_is() -> None:
    page = shown(sheet())

    assert page.alts == [
        "input shoes/red.jpg",
        "result 1 of shoes/red.jpg, wan2.7-image",
        "result 2 of shoes/red.jpg, wan2.7-image",
    ]
    for image in page.all("img"):
        assert str(image["src"]).startswith("data:image/webp;base64,")
        assert (image["width"], image["height"]) == ("480", "360")
    assert page.links == ["red-1.png", "red-2.png", "job.json"]


def test_a_page_says_what_was_asked_when_and_at_what_cost() -> None:
    text = shown(sheet()).text

    for said_ in (
        "SUCCEEDED", "make them blue", "no laces", "wan2.7-image", "beijing", "A-113", "t-1",
        "2026-01-31 10:00:21 UTC", "34 s", "2 images billed, 0.40 CNY", "800×600 · 1.9 MB",
        "k3v2aaaabbbbcccc",
    ):  # fmt: skip
        assert said_ in text
    assert re.search(r"watermark\s+false", text)
    assert re.search(r"Seed\s+7", text)


def test_a_page_needs_nothing_and_lets_nothing_in() -> None:
    html = sheets.page(sheet())
    page = Page(html)

    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert str(policy).startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'"
    )
    assert {m.get("name"): m.get("content") for m in page.all("meta")}["viewport"] == (
        "width=device-width, initial-scale=1"
    )
    assert page.all("html") == [{"lang": "en"}]
    assert not {"script", "iframe", "object", "form", "base"} & {tag for tag, _ in page.elements}
    assert "url(" not in html
    assert "@import" not in html
    assert [link["href"] for link in page.all("link")] == ["data:,"]


HOSTILE_FIELDS: dict[str, dict[str, Any]] = {
    "prompt": {"request": said()["request"] | {"prompt": HOSTILE, "negative_prompt": HOSTILE}},
    "parameters": {"request": said()["request"] | {"parameters": {HOSTILE: HOSTILE}}},
    "names": {
        "sidecar": {"key": f"{HOSTILE}/{HOSTILE}.json"},
        "inputs": [{"key": HOSTILE, "version_id": "1"}],
        "mask": {"key": HOSTILE, "version_id": "2"},
        "outputs": [{"key": f"{FOLDER}/{HOSTILE}.png", "version_id": "3", "number": 1}],
    },
    "a URL": {"inputs": [{"url": f"https://example.com/{HOSTILE}"}]},
    "labels": {"labels": {HOSTILE: HOSTILE}},
    "words": {
        "status": HOSTILE, "model": HOSTILE, "region": HOSTILE, "doubt": HOSTILE, "task_id": HOSTILE,
        "failure": {"code": HOSTILE, "message": HOSTILE},
        "image_failures": [{"code": HOSTILE, "message": HOSTILE}],
        "problems": [{"field": HOSTILE, "message": HOSTILE}, {"field": "", "message": HOSTILE}],
        "warnings": [{"field": HOSTILE, "message": HOSTILE}],
        "rewritten_prompts": [HOSTILE], "retry_of": HOSTILE, "retried_as": HOSTILE,
        "missing": [HOSTILE], "seed": HOSTILE,
        "cost": {"images": 1, "price": "1", "amount": HOSTILE, "currency": HOSTILE},
        "part": {"number": 0, "variant": HOSTILE, "variants": [HOSTILE], "step": 1, "of": 2},
        "times": {"created": HOSTILE, "finished": HOSTILE},
    },
}  # fmt: skip


@pytest.mark.parametrize("fields", HOSTILE_FIELDS.values(), ids=HOSTILE_FIELDS)
@pytest.mark.parametrize("kind", ["page", "gallery"])
def test_what_people_wrote_is_shown_as_text(fields: dict[str, Any], kind: str) -> None:
    found = sheet(FOLDER, [(HOSTILE, False)], **fields)
    harmless = sheet(FOLDER, [("text", False)], **(fields | _harmless(fields)))
    if kind == "page":
        page, plain = Page(sheets.page(found)), Page(sheets.page(harmless))
        assert HOSTILE.strip() in page.text
    else:
        page = Page("".join(sheets.gallery("a b", [found], [found.record])))
        plain = Page("".join(sheets.gallery("a b", [harmless], [harmless.record])))

    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    for _, attributes in page.elements:
        assert not {"onerror", "onload", "srcset"} & attributes.keys()


def _harmless(value: Any) -> Any:
    """The same with a harmless word in place of the hostile one."""
    if isinstance(value, dict):
        return {_harmless(k): _harmless(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_harmless(one) for one in value]
    return value.replace(HOSTILE, "word") if isinstance(value, str) else value


def test_links_lead_to_their_objects_whatever_these_are_called() -> None:
    name = "图 “x” 100% #1 + ?🎨-1.png"
    outputs = [{"key": f"{FOLDER}/{name}", "version_id": "1", "number": 1}]

    link = shown(sheet(FOLDER, outputs=outputs)).links[0]

    assert not set(link) & set(' "<>#?%+“'.replace("%", ""))
    assert unquote(link) == name


def test_an_input_of_the_inbox_has_no_link_and_one_of_the_outbox_has() -> None:
    inputs = [
        said()["inputs"][0],
        {"key": "shoes/red/step-1/step-1-1.png", "version_id": "9", "made_by": "aaaabbbbccccdddd"},
    ]
    page = shown(sheet(inputs=inputs, outputs=[]))

    assert page.links == ["step-1/step-1-1.png", "job.json"]
    assert "the result of an earlier step" in page.text


def test_a_mended_input_leads_to_what_was_sent_and_says_what_was_changed() -> None:
    mended = {"key": "shoes/red/sent/image-1.png", "changes": ["turned upright", "shrunk"]}
    page = shown(sheet(inputs=[said()["inputs"][0] | {"mended": mended}]))

    assert "sent/image-1.png" in page.links
    assert "turned upright, shrunk" in page.text


def test_a_mask_says_what_its_colours_mean() -> None:
    page = shown(sheet(mask={"key": "shoes/red.mask.png", "version_id": "m"}))

    assert "mask shoes/red.mask.png: white is edited, black is kept" in page.alts


def test_text_and_images_stand_in_order_and_no_image_twice() -> None:
    text = [
        ("First\n\n> **Image 9 is missing.** Gone: no more", False),
        ("shoes/red/red-1.png", True),
        ("Then", False),
    ]
    html = sheets.page(sheet(text=text, inputs=[]))

    places = [
        html.index(word) for word in ("First", "Image 9 is missing.", 'alt="result 1', "Then")
    ]
    assert places == sorted(places)
    assert html.index('alt="result 2') < places[0]  # it is not in the text
    assert html.count("<img ") == 2
    assert "**" not in html


def test_words_stand_where_there_is_no_picture() -> None:
    found = record()
    picture = found.inputs[0]

    page = shown(Sheet("shoes/red", found, {picture: "it is a damaged image"}))

    assert page.alts == []
    assert "no picture here: it is a damaged image" in page.text
    assert "no picture here: it was not looked at" in page.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": "REJECTED", "problems": [{"field": "parameters.n", "message": "is 9"}]},
         ["parameters.n: is 9", "nothing was sent"]),
        ({"status": "FAILED", "failure": {"code": "Inspection", "message": "no"}},
         ["Inspection: no"]),
        ({"status": "PARTIAL", "image_failures": [{"code": "Gone", "message": "403"}]},
         ["1 image missing", "Gone: 403"]),
        ({"status": "UNRESOLVED", "doubt": "may have been billed"}, ["may have been billed"]),
        ({"status": "HELD", "refusal": {"code": "OverBudget", "message": "100 a day"}},
         ["held back", "OverBudget: 100 a day"]),
        ({"status": "WAITING", "missing": ["shoes/blue.jpg"]}, ["shoes/blue.jpg"]),
        ({"status": "SOMETHING_NEW"}, ["SOMETHING_NEW", "under way"]),
        ({"part": {"variant": "blue", "step": 2, "of": 3}}, ["blue, step 2 of 3"]),
        ({"cost": {"images": 2, "price": None, "amount": None, "currency": None}},
         ["2 images billed, no price is known"]),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_said(fields: dict[str, Any], words: list[str]) -> None:
    text = shown(sheet(**fields)).text

    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"job_id": 3}', b"\xff", b'{"job_id": "a", "status": "X", "inputs": 3}'],
)
def test_what_is_no_record_is_none(data: bytes) -> None:
    assert sheets.record_in(data) is None


def test_a_record_of_another_version_is_shown_as_far_as_it_goes() -> None:
    found = sheets.record_in(b'{"job_id": "k3v2", "status": "QUEUED", "new": {"a": [1]}}')

    assert found is not None
    assert "QUEUED" in shown(Sheet("x", found)).text


# --- jobs of one drop ----------------------------------------

NAMES = ("blue", "a b+1%#", "图🎨?&'")
STRANGE = "a b/100% #1 + “x”.png.json"


def one_of(
    number: int, *, variants: bool, there: tuple[bool, ...] = (True,) * 3, key: str = STRANGE
) -> Sheet:
    """The page of one of three variants or steps, and which of them have a page."""
    part: dict[str, Any] = {"number": number, "of": 3}
    part |= (
        {"variant": NAMES[number], "variants": list(NAMES)}
        if variants
        else {"step": number + 1, "steps": 3}
    )
    found = record(part=part, sidecar={"key": key, "version_id": "1"}, outputs=[], inputs=[])
    folders = sheets.part_folders(found)
    parts = list(zip(folders, there, strict=True))
    return Sheet(folders[number], found, parts=parts)


def ways(page: Page) -> list[str]:
    return [link for link in page.links if link.endswith("index.html")]


def test_a_variant_s_page_says_which_it_is_and_leads_to_the_others() -> None:
    page = shown(one_of(1, variants=True))

    assert "Variant 2 of 3" in page.text
    assert page.all("nav") == [{"class": "parts", "aria-label": "Variants of this drop"}]
    assert [b.get("aria-current") for b in page.all("b")] == ["page"]
    blue, strange = ways(page)
    assert blue == "../blue/index.html"
    assert not set(strange) & set(" #?+&'")
    assert unquote(strange) == "../图🎨?&'/index.html"
    for name in NAMES:
        assert name in page.text


def test_a_step_s_page_leads_to_the_others_and_marks_the_last() -> None:
    first, last = (shown(one_of(number, variants=False)) for number in (0, 2))

    assert ways(first) == ["../step-2/index.html", "../index.html"]
    assert ways(last) == ["step-1/index.html", "step-2/index.html"]
    for page in (first, last):
        assert "Step 3 (final result)" in page.text
        assert page.text.count("final result") == 1
    assert "Step 1 of 3" in first.text


def test_every_way_from_one_page_to_another_ends_in_its_folder() -> None:
    for variants in (True, False):
        pages = [one_of(number, variants=variants) for number in range(3)]
        for found in pages:
            here = "https://outbox.example.com/" + quote(f"{found.folder}/index.html")
            led = {unquote(urljoin(here, link)) for link in ways(shown(found))}
            others = {one.folder for one in pages if one is not found}
            assert led == {f"https://outbox.example.com/{one}/index.html" for one in others}


def test_the_folders_of_parts_are_those_that_their_jobs_have_however_long_the_key() -> None:
    key = f"{'long/' * 180}{'x' * 90}.png.json"
    found = one_of(0, variants=True, key=key).record

    for name, folder in zip(NAMES, sheets.part_folders(found), strict=True):
        assert folder == part_folder(outbox_folder(key), name)


def test_what_has_no_page_yet_is_named_without_a_link() -> None:
    page = shown(one_of(0, variants=True, there=(True, False, True)))

    assert len(ways(page)) == 1
    assert f"{NAMES[1]}: no page yet" in page.text


def test_a_page_gets_new_ways_and_stays_the_same_otherwise() -> None:
    part = {"number": 0, "of": 2, "variant": "a", "variants": ["a", "b"]}
    request = said()["request"] | {"prompt": '<nav class="parts"></nav>'}
    before = sheet("shoes/red/a", part=part, request=request)
    folders = sheets.part_folders(before.record)
    early = replace(before, parts=[(folders[0], True), (folders[1], False)])
    late = replace(before, parts=[(folder, True) for folder in folders])
    html = sheets.page(early)
    assert ways(Page(html)) == []

    made = sheets.renewed(html, replace(late, pictures={}))

    assert made == sheets.page(late)
    assert ways(Page(made)) == ["../b/index.html"]


@pytest.mark.parametrize(
    "part",
    [
        None,
        {},
        {"number": 0, "of": 1, "variant": "a", "variants": ["a"]},
        {"variant": "a", "of": 2},
        {"number": 5, "of": 3, "step": 1, "steps": 3},
        {"number": 0, "of": 10**9, "step": 1, "steps": 10**9},
        {"number": 0, "of": 2, "variant": "a", "variants": []},
        {"number": 0, "of": 2, "variant": "a"},
    ],
)
def test_where_the_others_cannot_be_told_there_is_no_way_to_them(part: Any) -> None:
    found = record(part=part)

    assert sheets.part_folders(found) == ()
    assert ways(shown(sheet(part=part))) == []
    html = sheets.page(sheet())
    assert sheets.renewed(html, sheet(part=part)) == html


# --- folders ----------------------------------------


def test_a_folder_s_page_counts_and_leads_to_each_job() -> None:
    good, bad = sheet("shoes/red"), sheet(
        "shoes/a b", status="FAILED", outputs=[], sidecar={"key": "shoes/a b.json"},
        failure={"code": "Gone", "message": "no"}, cost=None,
    )  # fmt: skip
    html = "".join(sheets.gallery("shoes", [good, bad], [good.record, bad.record]))
    page = Page(html)

    assert page.links[0] == "#job-2"
    assert {"red/index.html", "a%20b/index.html", "red/red-1.png"} <= set(page.links)
    assert {"job-1", "job-2"} == {str(a["id"]) for a in page.all("article")}
    assert "2 jobs, 2 results, 2 images billed, 0.40 CNY" in page.text
    assert "1 SUCCEEDED" in page.text
    assert "1 FAILED" in page.text


def test_a_folder_s_page_asks_for_one_job_at_a_time() -> None:
    asked: list[int] = []

    def sheets_() -> Any:
        for number in range(3):
            asked.append(number)
            yield sheet()

    pieces = sheets.gallery("", sheets_(), [record()] * 3)
    while 'id="job-1"' not in next(pieces):
        assert asked in ([], [0])

    assert asked == [0]


def test_a_job_without_a_page_has_no_link_to_one() -> None:
    found = sheet(status="RUNNING", outputs=[])
    page = Page("".join(sheets.gallery("shoes", [found], [found.record])))

    assert page.links == []


def test_folders_are_in_a_person_s_order() -> None:
    assert in_order(["img-10", "img-2", "Img-1", "a/b", "²", "x" + "9" * 5000]) == [
        "a/b", "Img-1", "img-2", "img-10", "x" + "9" * 5000, "²",
    ]  # fmt: skip


def test_totals_are_kept_apart_by_currency() -> None:
    costs = [
        {"images": 1, "price": "1", "amount": "0.10", "currency": "CNY"},
        {"images": 2, "price": "1", "amount": "0.20", "currency": "CNY"},
        {"images": 3, "price": "1", "amount": "0.30", "currency": "USD"},
        {"images": 4, "price": None, "amount": None, "currency": None},
        None,
    ]
    images, sums = totals([record(cost=cost) for cost in costs])

    assert images == 10
    assert {currency: str(amount) for currency, amount in sums.items()} == {
        "CNY": "0.30", "USD": "0.30",
    }  # fmt: skip


# --- against the real records ----------------------------------------


def test_every_part_that_a_page_reads_is_one_that_records_have() -> None:
    from retouch.records import record as record_of
    from tests.fakes import World

    world = World()
    real = record_of(world.finalizing_job())

    not_yet = {"part"}  # of jobs that belong together
    assert set(Record.model_fields) - not_yet <= set(real)
    inputs: Any = real["inputs"]
    assert {"key", "version_id", "size", "width", "height", "mended"} <= set(inputs[0])


# --- thumbnails ----------------------------------------


def test_a_thumbnail_is_small_and_keeps_its_ratio() -> None:
    small = thumbnail(drawing(1200, 600), 480)

    assert (small.width, small.height) == (480, 240)
    assert small.data[:4] == b"RIFF"
    assert len(small.data) < 20_000


def test_a_folder_s_page_names_each_part_that_is_to_be_looked_at_and_none_that_was_repeated() -> (
    None
):
    fields: dict[str, Any] = {"status": "FAILED", "outputs": [], "cost": None}
    fields |= {"sidecar": {"key": "shoes/a.json"}, "failure": {"code": "Gone", "message": "no"}}
    last = sheet("shoes/a", **fields, part={"number": 1, "of": 2, "step": 2, "steps": 2})
    old = sheet(
        "shoes/a/old", **fields, part={"number": 0, "of": 2, "step": 1, "steps": 2}, retried_as="b"
    )
    page = Page("".join(sheets.gallery("shoes", [last, old], [last.record, old.record])))

    assert "shoes/a, step 2 of 2 FAILED" in page.text
    assert [link for link in page.links if link.startswith("#job-")] == ["#job-1"]
