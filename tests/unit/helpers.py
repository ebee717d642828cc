"""What the unit tests share: sidecars that are right but for what a test makes wrong, and pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

from PIL import Image

from retouch.registry import Json
from retouch.sidecar import Order, Problem, check

WANX = "wanx2.1-imageedit"
QWEN = "qwen-image-edit-plus"
WAN = "wan2.7-image"


def wanx(function: str = "description_edit", **more: Json) -> dict[str, Json]:
    """A sidecar for wanx2.1, with a mask where the function needs one."""
    raw: dict[str, Json] = {"model": WANX, "function": function, "prompt": "a red door"}
    if function == "description_edit_with_mask":
        raw["mask"] = "photo.mask.png"
    return raw | more


def qwen(**more: Json) -> dict[str, Json]:
    """A sidecar for qwen."""
    raw: dict[str, Json] = {"model": QWEN, "prompt": "a red door"}
    return raw | more


def wan(**more: Json) -> dict[str, Json]:
    """A sidecar for wan2.7."""
    raw: dict[str, Json] = {"model": WAN, "prompt": "a red door"}
    return raw | more


def accepted(
    raw: Mapping[str, Json], *, region: str | None = None, named_after_image: bool = True
) -> Order:
    """The order; fails the test if there are problems."""
    result = check(raw, region=region, named_after_image=named_after_image)
    assert isinstance(result, Order), [str(problem) for problem in result]
    return result


def problems(
    raw: Mapping[str, Json], *, region: str | None = None, named_after_image: bool = True
) -> list[Problem]:
    """The problems, at least one; fails the test if the sidecar is accepted."""
    result = check(raw, region=region, named_after_image=named_after_image)
    assert not isinstance(result, Order), "accepted"
    assert result, "refused without a reason"
    return result


def fields(raw: Mapping[str, Json], *, region: str | None = None) -> list[str]:
    """The fields that are refused, sorted."""
    return sorted(problem.field for problem in problems(raw, region=region))


def the_problem(raw: Mapping[str, Json], field: str) -> str:
    """The message of the only problem, which must be with `field`."""
    found = problems(raw)
    assert [problem.field for problem in found] == [field], [str(problem) for problem in found]
    return found[0].message


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def utf8(value: object) -> bytes:
    """A value as JSON text; an exception if it cannot be written."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8")
