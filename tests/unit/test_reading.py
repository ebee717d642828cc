"""Text with images: what is written reads in order, and is understood again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retouch.reading import parts_of, written

FOLDER = "shoes/red"
KEYS = {1: "shoes/red/red-1.png", 2: "shoes/red/red-2.png"}


def test_what_was_written_is_understood_again() -> None:
    text = written(["one", 1, "two\n\nand more", 2], KEYS, {}, FOLDER)

    assert parts_of(text, FOLDER, KEYS.values()) == [
        ("one", False),
        (KEYS[1], True),
        ("two\n\nand more", False),
        (KEYS[2], True),
    ]


def test_a_link_leads_to_its_image_whatever_its_name() -> None:
    key = "a b/100% #1 (new)/图 “x”🎨-1.png"
    text = written([1], {1: key}, {}, "a b/100% #1 (new)")

    assert text == ("![Image 1](%E5%9B%BE%20%E2%80%9Cx%E2%80%9D%F0%9F%8E%A8-1.png)\n")
    assert parts_of(text, "a b/100% #1 (new)", [key]) == [(key, True)]


def test_a_link_that_the_model_wrote_is_its_text() -> None:
    for said in ("![Image 1](https://evil.example.com/x.png)", "![Image 1](../../secret.png)"):
        assert parts_of(written([said, 1], KEYS, {}, FOLDER), FOLDER, KEYS.values()) == [
            (said, False),
            (KEYS[1], True),
        ]


def test_a_missing_image_and_an_early_end_are_said_in_their_places() -> None:
    text = written([1, "text", 2], {2: KEYS[2]}, {1: "Gone:\nno more"}, FOLDER, "Lost: line")

    assert text.split("\n\n") == [
        "> **Image 1 is missing.** Gone: no more",
        "text",
        "![Image 2](red-2.png)",
        "> **The answer broke off here.** Lost: line\n",
    ]


@given(parts=st.lists(st.one_of(st.text(), st.sampled_from([1, 2]))))
def test_every_image_is_found_again_in_its_order_whatever_was_written_between(
    parts: list[str | int],
) -> None:
    read = parts_of(written(parts, KEYS, {}, FOLDER), FOLDER, KEYS.values())

    numbers = [part for part in parts if isinstance(part, int)]
    assert [key for key, is_image in read if is_image] == [KEYS[number] for number in numbers]
    words = "".join("".join(part.split()) for part in parts if isinstance(part, str))
    assert "".join("".join(text.split()) for text, is_image in read if not is_image) == words
