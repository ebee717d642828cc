"""Contact sheets on the deployed template: a job that has ended gets its page by itself."""

from __future__ import annotations

from functools import partial

from tests.e2e.support import User, mask, picture, until
from tests.pages import Page


def page(user: User, key: str) -> Page:
    data = until(lambda: user.read(key), f"{key} in the outbox", 150)
    return Page(data.decode("utf-8"))


def test_a_job_s_page_appears_beside_its_results(user: User) -> None:
    folder = "pages/100% #1 + 图 🎨"
    user.put(f"{folder}.png", picture(format_="PNG"))
    user.put(f"{folder}.mask.png", mask())
    user.put(
        f"{folder}.png.json",
        {
            "model": "wanx2.1-imageedit",
            "function": "description_edit_with_mask",
            "prompt": "<b>tulips</b>",
            "mask": f"{folder.rpartition('/')[2]}.mask.png",
            "parameters": {"n": 2},
        },
    )
    record = user.settled(folder)
    assert record["status"] == "SUCCEEDED"

    found = page(user, f"{folder}/index.html")

    kinds = [alt.split()[0] for alt in found.alts]
    assert kinds == ["input", "mask", "result", "result"]
    assert "<b>tulips</b>" in found.text
    assert record["job_id"] in found.text


def test_the_pages_of_variants_come_to_lead_to_each_other(user: User) -> None:
    user.put("pages/two 100%.jpg", picture())
    variants = [{"name": "a +#"}, {"name": "图"}]
    said = {"model": "wan2.7-image", "prompt": "two tulips", "variants": variants}
    user.put("pages/two 100%.jpg.json", said)
    for name in ("a +#", "图"):
        assert user.settled(f"pages/two 100%/{name}")["status"] == "SUCCEEDED"

    def leads(name: str, way: str) -> bool | None:
        return way in page(user, f"pages/two 100%/{name}/index.html").links or None

    for name, way in (("a +#", "../%E5%9B%BE/index.html"), ("图", "../a%20%2B%23/index.html")):
        until(partial(leads, name, way), f"the page of {name} leads to the other's", 60)


def test_a_refused_drop_has_a_page_that_names_its_problems(user: User) -> None:
    user.put("pages/bad.jpg", picture())
    user.put(
        "pages/bad.jpg.json", {"model": "wan2.7-image", "prompt": "x", "parameters": {"n": 99}}
    )
    record = user.settled("pages/bad")
    assert record["status"] == "REJECTED"

    found = page(user, "pages/bad/index.html")

    assert record["problems"][0]["message"] in found.text


def test_text_with_images_reads_in_order_as_markdown_and_as_a_page(user: User) -> None:
    user.put(
        "pages/guide.json",
        {
            "model": "wan2.6-image",
            "prompt": "a guide to repotting, two steps",
            "images": [],
            "parameters": {"enable_interleave": True, "max_images": 2},
        },
    )
    record = user.settled("pages/guide", 120)
    assert record["status"] == "SUCCEEDED"

    written = (user.read("pages/guide/guide.md") or b"").decode()

    paragraphs = written.strip().split("\n\n")
    assert paragraphs[0].startswith("Simulated step 1.")
    assert paragraphs[1] == "![Image 1](guide-1.png)"
    assert paragraphs[2].startswith("Simulated step 2.")
    assert paragraphs[3] == "![Image 2](guide-2.png)"
    text = page(user, "pages/guide/index.html").text
    places = [
        text.index(w) for w in ("Simulated step 1.", "Result 1", "Simulated step 2.", "Result 2")
    ]
    assert places == sorted(places)
