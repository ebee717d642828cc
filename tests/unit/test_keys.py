"""Names: what is ignored by a documented rule, what pairs with what, and where results go."""

from __future__ import annotations

from urllib.parse import quote, unquote, urljoin

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retouch import keys
from retouch.keys import Kind

S3_KEY_BYTES = 1024


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("shoes/", id="a folder marker"),
        pytest.param("", id="no name"),
        pytest.param(".DS_Store", id="a name with a dot in front"),
        pytest.param("shoes/.photo.jpg", id="in a folder, too"),
        pytest.param(".git/photo.jpg", id="a folder with a dot in front"),
        pytest.param("a/.b/c/photo.jpg.json", id="a folder in the middle"),
        pytest.param("~$photo.jpg", id="an office lock"),
        pytest.param("~trash/photo.jpg", id="a folder with a tilde"),
        pytest.param("photo.jpg~", id="a backup"),
        pytest.param("photo.jpg.tmp", id="tmp"),
        pytest.param("photo.jpg.part", id="part"),
        pytest.param("photo.jpg.partial", id="partial"),
        pytest.param("photo.jpg.crdownload", id="crdownload"),
        pytest.param("photo.json.TMP", id="tmp in capitals"),
        pytest.param("Thumbs.db", id="thumbs"),
        pytest.param("shoes/thumbs.db", id="thumbs in a folder"),
        pytest.param("shoes/desktop.ini", id="desktop.ini"),
        pytest.param("shoes/photo.jpg.filepart", id="an upload tool's"),
        pytest.param("shoes/photo.jpg.download", id="another browser's"),
        pytest.param("shoes_$folder$", id="another folder marker"),
        pytest.param("__MACOSX/shoes/photo.jpg", id="what a Mac packs beside a folder"),
        pytest.param("sidecar.schema.json", id="a schema"),
    ],
)
def test_documented_names_are_ignored(key: str) -> None:
    assert keys.classify(key) is Kind.IGNORED


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("photo.json", id="plain"),
        pytest.param("photo.jpg.json", id="after an image"),
        pytest.param("shoes/red photo+1%20#2.jpg.json", id="space plus percent hash"),
        pytest.param("鞋/红.json", id="Chinese"),
        pytest.param("🐇.jpg.json", id="emoji"),
        pytest.param("photo.JSON", id="capitals"),
        pytest.param("schema.json", id="a sidecar named schema"),
        pytest.param("preset.json", id="a sidecar named preset"),
        pytest.param("my_preset.json", id="ends like a preset"),
        pytest.param("a.b/c.json", id="a dot inside a folder's name"),
        pytest.param("a~b/c~d.json", id="a tilde inside"),
    ],
)
def test_json_files_are_sidecars(key: str) -> None:
    assert keys.classify(key) is Kind.SIDECAR


@pytest.mark.parametrize(
    "key",
    ["photo.jpg", "shoes/photo.WEBP", "no-suffix", "readme.txt", "红.png", "a+b c%25#.tiff", "json",
     "photo.tmp.jpg", "my desktop.ini.png"],
)  # fmt: skip
def test_everything_else_is_taken_for_an_image_and_not_ignored(key: str) -> None:
    assert keys.classify(key) is Kind.IMAGE


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "a.jpeg", "a.png", "a.webp", "a.bmp", "a.tif", "a.tiff", "a.gif", "A.JPG", "x/y.PnG"],
)
def test_image_names_end_in_a_format_that_some_model_takes(name: str) -> None:
    assert keys.is_image_name(name)


@pytest.mark.parametrize("name", ["a.json", "a", "jpg", "a.jpg.bak", "a.svg", "a.heic", ""])
def test_other_names_are_no_image_names(name: str) -> None:
    assert not keys.is_image_name(name)


@pytest.mark.parametrize(
    ("image", "sidecars"),
    [
        pytest.param("photo.jpg", ("photo.jpg.json", "photo.json"), id="at the root"),
        pytest.param("shoes/red.jpg", ("shoes/red.jpg.json", "shoes/red.json"), id="in a folder"),
        pytest.param("a.b/red", ("a.b/red.json",), id="no suffix, a dot in the folder"),
        pytest.param("v1.2/p.q.png", ("v1.2/p.q.png.json", "v1.2/p.q.json"), id="several dots"),
        pytest.param(
            "red +%20#1.jpg", ("red +%20#1.jpg.json", "red +%20#1.json"), id="odd characters"
        ),
        pytest.param("鞋/红🐇.png", ("鞋/红🐇.png.json", "鞋/红🐇.json"), id="Chinese and emoji"),
    ],
)
def test_an_image_is_described_by_its_full_name_first(
    image: str, sidecars: tuple[str, ...]
) -> None:
    assert keys.sidecars_of(image) == sidecars


@pytest.mark.parametrize(
    ("sidecar", "image"),
    [
        ("photo.jpg.json", "photo.jpg"),
        ("shoes/red photo.PNG.json", "shoes/red photo.PNG"),
        ("鞋/红.webp.json", "鞋/红.webp"),
        ("photo.json", None),
        ("photo.v2.json", None),
        ("folder.jpg/photo.json", None),
    ],
)
def test_a_sidecar_names_an_image_where_its_name_holds_one(sidecar: str, image: str | None) -> None:
    assert keys.image_named_by(sidecar) == image


def test_the_images_of_a_bare_sidecar_begin_with_its_name_and_a_dot() -> None:
    assert keys.image_prefix("shoes/red.json") == "shoes/red."


@settings(deadline=None)
@given(
    folder=st.sampled_from(["", "shoes/", "a.b/c d/", "鞋/"]),
    name=st.text(
        st.characters(exclude_characters="/.", exclude_categories=("Cs", "Cc")), min_size=1
    ),
    suffix=st.sampled_from([".jpg", ".JPEG", ".png", ".webp", ".tiff"]),
)
def test_pairing_agrees_in_both_directions(folder: str, name: str, suffix: str) -> None:
    image = folder + name + suffix
    first, second = keys.sidecars_of(image)
    assert keys.image_named_by(first) == image
    assert keys.image_named_by(second) is None
    assert image.startswith(keys.image_prefix(second))
    assert keys.outbox_folder(first) == keys.outbox_folder(second) == folder + name


@pytest.mark.parametrize(
    ("sidecar", "name", "key"),
    [
        pytest.param("shoes/red.json", "a.jpg", "shoes/a.jpg", id="beside"),
        pytest.param("red.json", "a.jpg", "a.jpg", id="beside at the root"),
        pytest.param("shoes/red.json", "sub/a.jpg", "shoes/sub/a.jpg", id="below"),
        pytest.param("shoes/red.json", "/hats/a.jpg", "hats/a.jpg", id="from the root"),
        pytest.param("shoes/red.json", "a %20+#.jpg", "shoes/a %20+#.jpg", id="not URL-decoded"),
    ],
)
def test_a_named_image_is_beside_the_sidecar_or_from_the_root(
    sidecar: str, name: str, key: str
) -> None:
    assert keys.resolve(sidecar, name) == key


@pytest.mark.parametrize(
    ("sidecar", "folder", "image", "text"),
    [
        pytest.param(
            "shoes/red.jpg.json",
            "shoes/red",
            "shoes/red/red-1.png",
            "shoes/red/red.md",
            id="after the image",
        ),
        pytest.param(
            "shoes/red.json", "shoes/red", "shoes/red/red-1.png", "shoes/red/red.md", id="bare"
        ),
        pytest.param("red.json", "red", "red/red-1.png", "red/red.md", id="at the root"),
        pytest.param(
            "a/red v1.2.json",
            "a/red v1.2",
            "a/red v1.2/red v1.2-1.png",
            "a/red v1.2/red v1.2.md",
            id="a dot that is no suffix",
        ),
        pytest.param(
            "鞋/红 +%20#.PNG.json",
            "鞋/红 +%20#",
            "鞋/红 +%20#/红 +%20#-1.png",
            "鞋/红 +%20#/红 +%20#.md",
            id="odd characters stay as they are",
        ),
    ],
)
def test_results_go_where_architecture_6_says(
    sidecar: str, folder: str, image: str, text: str
) -> None:
    assert keys.outbox_folder(sidecar) == folder
    assert keys.result_key(folder, 1, ".png") == image
    assert keys.text_key(folder) == text
    assert keys.record_key(folder) == f"{folder}/job.json"


def test_results_are_numbered() -> None:
    assert [keys.result_key("shoes/red", n, ".png") for n in (1, 2, 12)] == [
        "shoes/red/red-1.png",
        "shoes/red/red-2.png",
        "shoes/red/red-12.png",
    ]


@settings(deadline=None)
@given(
    folder=st.sampled_from(["", "shoes/", "f" * 600 + "/"]),
    character=st.sampled_from(["a", "é", "鞋", "🐇"]),
    suffix=st.sampled_from([".json", ".jpg.json"]),
    spare=st.integers(0, 300),
)
@example(folder="", character="a", suffix=".json", spare=0)
@example(folder="", character="a", suffix=".jpg.json", spare=0)
def test_results_of_the_longest_names_fit_the_1024_bytes_of_a_key(
    folder: str, character: str, suffix: str, spare: int
) -> None:
    room = S3_KEY_BYTES - len(folder) - len(suffix) - spare
    sidecar = folder + character * (room // len(character.encode())) + suffix
    assert len(sidecar.encode()) <= S3_KEY_BYTES
    out = keys.outbox_folder(sidecar)
    for key in (keys.record_key(out), keys.result_key(out, 12, ".png"), keys.text_key(out)):
        assert len(key.encode()) <= S3_KEY_BYTES


def test_long_names_that_differ_at_the_end_keep_their_results_apart() -> None:
    one = "shoes/" + "a" * 1000 + "1.json"
    two = "shoes/" + "a" * 1000 + "2.json"
    first, second = keys.outbox_folder(one), keys.outbox_folder(two)
    assert keys.record_key(first) != keys.record_key(second)
    assert keys.result_key(first, 1, ".png") != keys.result_key(second, 1, ".png")


@pytest.mark.parametrize(
    ("key", "folder", "url"),
    [
        ("shoes/red/red-1.png", "shoes/red", "red-1.png"),
        ("shoes/red/sent/image-1.png", "shoes/red", "sent/image-1.png"),
        ("shoes/red/red-1.png", "shoes/red/abc", "../red-1.png"),
        ("hats/a/a-1.png", "shoes/red", "../../hats/a/a-1.png"),
        ("shoes/red/index.html", "", "shoes/red/index.html"),
        ("a:b/c?d#e.png", "a:b", "c%3Fd%23e.png"),
        ("javascript:x", "", "javascript%3Ax"),
        ("x/100% +1.png", "x", "100%25%20%2B1.png"),
    ],
)
def test_a_relative_url_leads_from_a_folder_to_an_object(key: str, folder: str, url: str) -> None:
    assert keys.href(key, folder) == url
    base = f"https://bucket.example.com/{quote(folder)}/index.html".replace("com//", "com/")
    assert unquote(urljoin(base, url)) == f"https://bucket.example.com/{key}"


def test_the_page_of_a_folder_is_its_index() -> None:
    assert keys.page_key("shoes/red") == "shoes/red/index.html"
    assert keys.page_key("") == "index.html"
