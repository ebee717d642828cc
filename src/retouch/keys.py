"""Names in the two buckets: what an object is, what belongs together, where results go. Pure.

Ignored, and nothing else: folder markers (a name ending in / or in _$folder$), names with a component
that begins with a dot or with ~, the component __MACOSX, names that browsers, upload tools and editors
give to what is not finished (see `_TEMPORARY`), Thumbs.db and desktop.ini, and schemas (*.schema.json).
"""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

IMAGE_SUFFIXES: Final = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif",
)  # fmt: skip
PRESET: Final = "_preset.json"
_MAX_KEY_BYTES: Final = 1024
_TEMPORARY: Final = (
    ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".opdownload",
    ".upload", ".uploading", ".swp", "_$folder$", "~",
)  # fmt: skip
_JUNK: Final = ("thumbs.db", "desktop.ini")
_MAC_EXTRAS: Final = "__MACOSX"


class Kind(Enum):
    """What an object in the inbox is to us."""

    SIDECAR = "sidecar"
    PRESET = "preset"
    IMAGE = "image"
    IGNORED = "ignored"


def classify(key: str) -> Kind:
    """What the object of that key is, by its name alone."""
    pieces = key.split("/")
    name = pieces[-1].lower()
    if (
        not name
        or any(piece.startswith((".", "~")) or piece == _MAC_EXTRAS for piece in pieces)
        or name.endswith(_TEMPORARY)
        or name in _JUNK
        or name.endswith(".schema.json")
    ):
        return Kind.IGNORED
    if pieces[-1] == PRESET:
        return Kind.PRESET
    if name.endswith(".json"):
        return Kind.SIDECAR
    return Kind.IMAGE


def is_image_name(key: str) -> bool:
    """Whether the name ends like an image that some model takes."""
    return key.lower().endswith(IMAGE_SUFFIXES)


def is_mask_name(key: str) -> bool:
    """Whether the name says that it is a mask, `photo.mask.png`: it is no job by itself."""
    return stem(key).lower().endswith(".mask")


def stem(key: str) -> str:
    """The key without the last suffix of its name: `shoes/red.jpg` gives `shoes/red`."""
    folder, slash, name = key.rpartition("/")
    return folder + slash + (PurePosixPath(name).stem or name)


def sidecars_of(image_key: str) -> tuple[str, ...]:
    """Keys of the sidecars that can describe an image, the winner first."""
    return tuple(dict.fromkeys((f"{image_key}.json", f"{stem(image_key)}.json")))


def image_named_by(sidecar_key: str) -> str | None:
    """The image of `photo.jpg.json` is `photo.jpg`; for `photo.json` it is not in the name: None."""
    bare = sidecar_key[: -len(".json")]
    return bare if is_image_name(bare) else None


def image_prefix(sidecar_key: str) -> str:
    """What the keys of a `photo.json`'s possible images begin with: `photo.`."""
    return sidecar_key[: -len(".json")] + "."


def resolve(sidecar_key: str, name: str) -> str:
    """The key of an image that a sidecar names: beside the sidecar, or from the root with `/`."""
    if name.startswith("/"):
        return name[1:]
    folder, slash, _ = sidecar_key.rpartition("/")
    return folder + slash + name


def presets_above(key: str) -> tuple[str, ...]:
    """Keys of the presets that can apply to an object, the inbox root's first."""
    folders = key.split("/")[:-1]
    return tuple("/".join((*folders[:depth], PRESET)) for depth in range(len(folders) + 1))


def below(preset_key: str) -> str:
    """What the keys of everything that a preset applies to begin with; empty at the root."""
    return preset_key.removesuffix(PRESET)


def part_folder(folder: str, name: str | None) -> str:
    """Where one of the jobs of a drop with this folder puts its results."""
    return folder if name is None else _shortened(f"{folder}/{name}")


def outbox_folder(sidecar_key: str) -> str:
    """Where a job's results go, without a trailing slash.

    `shoes/red.jpg.json` and `shoes/red.json` both stand for `shoes/red.jpg` and give `shoes/red`.
    """
    bare = sidecar_key[: -len(".json")]
    return _shortened(stem(bare) if is_image_name(bare) else bare)


def _shortened(folder: str) -> str:
    """The folder, or where a result's key in it would pass S3's 1,024 bytes a shorter one.

    What is cut off is stood for by a hash, so that different folders stay different.
    """
    longest = max(result_key(folder, 99, ".webp"), sent_key(folder, "image-9", ".webp"), key=_size)
    if _size(longest) <= _MAX_KEY_BYTES:
        return folder
    digest = hashlib.sha256(folder.encode()).hexdigest()[:12]
    parent, slash, name = folder.rpartition("/")
    return f"{_cut(parent, 600)}{slash}{_cut(name, 150)}~{digest}"


def _size(key: str) -> int:
    return len(key.encode())


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def result_key(folder: str, number: int, suffix: str) -> str:
    """The key of the `number`th image, counted from 1: `shoes/red/red-1.png`."""
    return f"{folder}/{folder.rpartition('/')[2]}-{number}{suffix}"


def sent_key(folder: str, name: str, suffix: str) -> str:
    """The key of an image that was mended before it was sent: `shoes/red/sent/image-1.png`."""
    return f"{folder}/sent/{name}{suffix}"


def text_key(folder: str) -> str:
    """The key of the text that a model wrote."""
    return f"{folder}/{folder.rpartition('/')[2]}.md"


def record_key(folder: str) -> str:
    """The key of a job's record."""
    return f"{folder}/job.json"


def page_key(folder: str) -> str:
    """The key of a job's contact sheet, and of a folder's; at the root of the outbox `index.html`."""
    return f"{folder}/index.html" if folder else "index.html"


def href(key: str, folder: str) -> str:
    """The relative URL of an object for a document that lies in `folder`, percent-encoded.

    `shoes/red/red 1.png` is `red%201.png` in `shoes/red`, and `../shoes/red/red%201.png` in `hats`.
    """
    base = folder.split("/") if folder else []
    pieces = key.split("/")
    shared = 0
    while shared < min(len(base), len(pieces) - 1) and base[shared] == pieces[shared]:
        shared += 1
    up = "../" * (len(base) - shared)
    return up + "/".join(quote(piece, safe="") for piece in pieces[shared:])
