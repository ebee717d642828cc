"""Contact sheets in a real browser: they render, their images load, they can be read on a phone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from retouch import sheets
from retouch.sheets import Sheet
from tests.browser.looking import Browser
from tests.pages import FOLDER, HOSTILE, said, sheet

PHONE, DESK = 360, 1280
LONG = "AVeryLongNameWithoutASpace_" * 12
Look = Callable[..., Browser]


def _hostile() -> Sheet:
    request = said()["request"] | {
        "prompt": HOSTILE, "negative_prompt": LONG, "parameters": {LONG: [LONG], "n": 1},
    }  # fmt: skip
    failure = {"code": HOSTILE, "message": LONG}
    return sheet(
        FOLDER,
        request=request,
        sidecar={"key": f"{LONG}/{HOSTILE}.json"},
        inputs=[{"key": f"{LONG}.jpg", "version_id": "1"}, {"url": f"https://example.com/{LONG}"}],
        mask={"key": f"{HOSTILE}.png", "version_id": "2"},
        labels={LONG: LONG},
        status="PARTIAL",
        failure=failure,
        image_failures=[failure, failure],
        problems=[{"field": LONG, "message": HOSTILE}],
        doubt=LONG,
    )


def _guide() -> Sheet:
    text = [(f"First\n\n> **Image 9 is missing.** {LONG}", False), ("shoes/red/red-1.png", True)]
    return sheet(text=[*text, ("Then", False), ("shoes/red/red-2.png", True)], inputs=[])


def _twelve() -> Sheet:
    one = said()["outputs"][0]
    return sheet(
        outputs=[one | {"key": f"shoes/red/red-{n}.png", "number": n} for n in range(1, 13)]
    )


def _without_pictures() -> Sheet:
    return replace(sheet(status="FAILED"), pictures={})


def _variant() -> Sheet:
    names = ["blue", LONG[:60], HOSTILE.replace("/", "")[:60].strip(), *map(str, range(17))]
    part = {"number": 0, "of": 20, "variant": "blue", "variants": names}
    made = sheet("shoes/red/blue", part=part)
    folders = sheets.part_folders(made.record)
    return replace(made, parts=[(folder, at % 3 != 1) for at, folder in enumerate(folders)])


CASES: dict[str, Callable[[], Sheet]] = {
    "one job": sheet,
    "hostile": _hostile,
    "text with images": _guide,
    "twelve results": _twelve,
    "no pictures": _without_pictures,
    "one of twenty": _variant,
    "refused": lambda: sheet(
        status="REJECTED", inputs=[], outputs=[], request=None, cost=None,
        problems=[{"field": "prompt", "message": "is missing"}],
    ),
}  # fmt: skip


def _page(case: Callable[[], Sheet]) -> str:
    return sheets.page(case())


def _folder() -> str:
    found = [case() for case in CASES.values()]
    return "".join(sheets.gallery("shoes", found, [one.record for one in found]))


PAGES: dict[str, Callable[[], str]] = {
    **{name: partial(_page, case) for name, case in CASES.items()},
    "a folder": _folder,
}


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_renders_without_a_word_on_the_console_and_fits_its_window(
    look: Look, name: str, width: int
) -> None:
    html = PAGES[name]()
    page = look(html, width)

    assert page.errors == []
    assert page.overflow == 0
    assert len(page.images) == html.count("<img ")
    for image in page.images:
        assert image["complete"]
        assert image["natural"] > 0
        assert image["alt"].strip()
        assert 40 <= image["shown"] <= width


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_all_text_is_large_enough_and_stands_out(look: Look, name: str, dark: bool) -> None:
    texts = look(PAGES[name](), PHONE, dark=dark).texts

    assert texts
    for text, size, contrast in texts:
        assert size >= 13.5, text
        assert contrast >= 4.5, text


def test_light_and_dark_differ(look: Look) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = look(sheets.page(sheet()), PHONE).run(ground)

    assert look(sheets.page(sheet()), PHONE, dark=True).run(ground) != light


def test_what_people_wrote_is_seen_as_they_wrote_it_and_does_nothing(look: Look) -> None:
    page = look(sheets.page(_hostile()), PHONE)

    assert HOSTILE.strip() in page.text
    assert page.run("return document.scripts.length") == 0
    assert page.run("return document.images.length") == 5
    assert page.errors == []


def test_a_character_that_turns_the_direction_of_writing_turns_its_own_text_only(
    look: Look,
) -> None:
    failure = {"code": "\u202ecode", "message": "message"}
    page = look(sheets.page(sheet(status="FAILED", failure=failure)), DESK)

    # Where the first letter of the message stands, and the last.
    first, last = page.run(
        "const text = document.querySelector('.note bdi').firstChild;"
        "const at = i => { const r = document.createRange(); r.setStart(text, i);"
        "r.setEnd(text, i + 1); return r.getBoundingClientRect().left; };"
        "return [at(0), at(6)]"
    )
    assert first < last


def test_the_policy_would_keep_out_what_escaping_let_through(look: Look) -> None:
    # The test above is worth what the console tells.
    html = sheets.page(sheet()).replace(
        "</main>", '<script>document.title = "run"</script><img src="x.png" alt="x"></main>'
    )
    page = look(html, PHONE)

    assert page.run("return document.title") != "run"
    assert len([error for error in page.errors if "Content Security Policy" in error]) >= 2


def test_input_and_results_stand_side_by_side_on_a_desk_and_below_each_other_on_a_phone(
    look: Look,
) -> None:
    html = sheets.page(sheet())

    one, two, _ = look(html, DESK).images
    assert one["left"] + one["shown"] <= two["left"]
    assert abs(one["top"] - two["top"]) < 5
    one, two, three = look(html, PHONE).images
    assert one["top"] < two["top"] < three["top"]
    assert one["left"] == pytest.approx(two["left"], abs=20)


def test_words_and_images_are_seen_in_order(look: Look) -> None:
    page = look(sheets.page(_guide()), PHONE)
    place: dict[str, Any] = page.run(
        "const top = e => e.getBoundingClientRect().top;"
        "const words = [...document.querySelectorAll('.words > p')];"
        "return {images: [...document.images].map(top), words: words.map(top)}"
    )

    first, remark, then = place["words"]
    one, two = place["images"]
    assert first < remark < one < then < two


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_ways_to_the_other_jobs_are_a_landmark_and_large_enough_for_a_thumb(
    look: Look, width: int
) -> None:
    page = look(sheets.page(_variant()), width)
    links: list[dict[str, Any]] = page.run(
        "return [...document.querySelectorAll('nav[aria-label] a')].map(a => {"
        "const box = a.getBoundingClientRect();"
        "return {width: box.width, height: box.height, left: box.left, top: box.top}})"
    )

    assert len(links) == 12
    for link in links:
        assert min(link["width"], link["height"]) >= 24
    places = [(link["left"], link["top"]) for link in links]
    assert len(set(places)) == len(links)
    assert page.run("return document.querySelectorAll('[aria-current=page]').length") == 1


def test_every_way_leads_to_its_page_in_a_copy_of_the_outbox(
    chrome: webdriver.Chrome, tmp_path: Path
) -> None:
    names = ["blue", "a b+1%41", "#?&;=", "图🎨"]
    for number, name in enumerate(names):
        part = {"number": number, "of": 4, "variant": name, "variants": names}
        made = sheet(part=part, sidecar={"key": "a b/50% #1+?/木.png.json", "version_id": "1"})
        folders = sheets.part_folders(made.record)
        made = replace(made, folder=folders[number], parts=[(one, True) for one in folders])
        file = tmp_path / "outbox" / folders[number] / "index.html"
        file.parent.mkdir(parents=True)
        file.write_text(sheets.page(made), "utf-8")
    first = tmp_path / "outbox" / folders[0] / "index.html"

    Browser.at(chrome, first.as_uri(), DESK)
    seen = [chrome.title]
    for name in names[1:]:
        chrome.find_element("link text", name).click()
        seen.append(chrome.title)

    assert seen == [f"木.png, {name} – SUCCEEDED" for name in names]


def test_a_link_of_the_list_of_trouble_leads_to_its_job(look: Look) -> None:
    page = look(_folder(), PHONE)

    targets = page.run(
        "return [...document.querySelectorAll('.note a')].map("
        "a => document.querySelector(a.getAttribute('href')) !== null)"
    )
    assert targets == [True] * 3
