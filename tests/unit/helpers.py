"""What the unit tests share: sidecars that are right but for what a test makes wrong, and pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from PIL import Image

from retouch.registry import Json
from retouch.sidecar import Order, Problem, check

WANX: Final = "wanx2.1-imageedit"
QWEN_BASE: Final = "qwen-image-edit"
QWEN: Final = "qwen-image-edit-plus"
QWEN_OCTOBER: Final = "qwen-image-edit-plus-2025-10-30"
QWEN_DECEMBER: Final = "qwen-image-edit-plus-2025-12-15"
QWEN_MAX: Final = "qwen-image-edit-max"
QWEN_JANUARY: Final = "qwen-image-edit-max-2026-01-16"
WAN_25: Final = "wan2.5-i2i-preview"
WAN_26: Final = "wan2.6-image"
WAN: Final = "wan2.7-image"
WAN_PRO: Final = "wan2.7-image-pro"
ELEVEN: Final = (
    WANX, QWEN_BASE, QWEN, QWEN_OCTOBER, QWEN_DECEMBER, QWEN_MAX, QWEN_JANUARY, WAN_25, WAN_26, WAN,
    WAN_PRO,
)  # fmt: skip

FUNCTIONS: Final = (
    "stylization_all",
    "stylization_local",
    "description_edit",
    "description_edit_with_mask",
    "remove_watermark",
    "expand",
    "super_resolution",
    "colorization",
    "doodle",
    "control_cartoon_feature",
)
EXTRA: Final[Mapping[str, tuple[Json, set[str]]]] = {
    # contract 3.2: parameter, a good value, who has it
    "strength": (0.5, {"stylization_all", "description_edit"}),
    "top_scale": (1.5, {"expand"}),
    "bottom_scale": (1.5, {"expand"}),
    "left_scale": (1.5, {"expand"}),
    "right_scale": (1.5, {"expand"}),
    "upscale_factor": (2, {"super_resolution"}),
    "is_sketch": (True, {"doodle"}),
}
_COMMON: Final = {"n", "seed", "watermark"}
_PLUS: Final = _COMMON | {"size", "prompt_extend"}
_WAN_27: Final = _COMMON | {
    "size", "enable_sequential", "thinking_mode", "color_palette", "bbox_list"
}  # fmt: skip
PARAMETERS: Final[Mapping[str, set[str]]] = {  # contract 3.2–3.6
    WANX: _COMMON | set(EXTRA),
    QWEN_BASE: _COMMON,
    QWEN: _PLUS,
    QWEN_OCTOBER: _PLUS,
    QWEN_DECEMBER: _PLUS,
    QWEN_MAX: _PLUS,
    QWEN_JANUARY: _PLUS,
    WAN_25: _PLUS,
    WAN_26: _PLUS | {"enable_interleave", "max_images"},
    WAN: _WAN_27,
    WAN_PRO: _WAN_27,
}


def parameters_of(model: str, function: str | None) -> set[str]:
    """The parameters that the contract lists for a model, or for one of its functions."""
    missing = {name for name, (_, having) in EXTRA.items() if function not in having}
    return PARAMETERS[model] - missing


def sidecar(model: str, /, **more: Json) -> dict[str, Json]:
    """A sidecar for any model; for wanx2.1 one that edits as the prompt says."""
    raw: dict[str, Json] = {"model": model, "prompt": "a red door"}
    return (wanx() if model == WANX else raw) | more


def wanx(function: str = "description_edit", **more: Json) -> dict[str, Json]:
    """A sidecar for wanx2.1, with a mask where the function needs one."""
    raw: dict[str, Json] = {"model": WANX, "function": function, "prompt": "a red door"}
    if function == "description_edit_with_mask":
        raw["mask"] = "photo.mask.png"
    return raw | more


def qwen(**more: Json) -> dict[str, Json]:
    """A sidecar for qwen-image-edit-plus."""
    return sidecar(QWEN, **more)


def wan26(**more: Json) -> dict[str, Json]:
    """A sidecar for wan2.6."""
    return sidecar(WAN_26, **more)


def wan(**more: Json) -> dict[str, Json]:
    """A sidecar for wan2.7."""
    return sidecar(WAN, **more)


def interleave(**parameters: Json) -> dict[str, Json]:
    """A sidecar for wan2.6 that asks for text with images."""
    return wan26(parameters={"enable_interleave": True, **parameters})


def sequence(n: Json) -> dict[str, Json]:
    """A sidecar for wan2.7 that asks for a set of images."""
    return wan(parameters={"enable_sequential": True, "n": n})


def names(count: int) -> list[Json]:
    """Names of so many images."""
    return [f"{number}.jpg" for number in range(count)]


def boxes(images: list[Json], value: Json) -> dict[str, Json]:
    """A sidecar for wan2.7 with boxes."""
    return wan(images=images, parameters={"bbox_list": value})


def palette(*ratios: str, colour: str = "#C2D1E6") -> list[Json]:
    """A palette of as many colours as ratios."""
    return [{"hex": colour, "ratio": ratio} for ratio in ratios]


def accepted(
    raw: Mapping[str, Json], *, regions: Sequence[str] | None = None, named_after_image: bool = True
) -> Order:
    """The order; fails the test if there are problems."""
    result = check(raw, regions=regions, named_after_image=named_after_image)
    assert isinstance(result, Order), [str(problem) for problem in result]
    return result


def problems(
    raw: Mapping[str, Json], *, regions: Sequence[str] | None = None, named_after_image: bool = True
) -> list[Problem]:
    """The problems, at least one; fails the test if the sidecar is accepted."""
    result = check(raw, regions=regions, named_after_image=named_after_image)
    assert not isinstance(result, Order), "accepted"
    assert result, "refused without a reason"
    return result


def fields(raw: Mapping[str, Json], *, regions: Sequence[str] | None = None) -> list[str]:
    """The fields that are refused, sorted."""
    return sorted(problem.field for problem in problems(raw, regions=regions))


def the_problem(
    raw: Mapping[str, Json], field: str, *, regions: Sequence[str] | None = None
) -> str:
    """The message of the only problem, which must be with `field`."""
    found = problems(raw, regions=regions)
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


# --- anything at all -------------------------------------------------------------------------------

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, float("inf"), -float("inf"), 0.0, 1.5])
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "..", "https://[", "https://a.example/x", "a.jpg", "1K", "768*768", "1x1", WANX, QWEN]
    ),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
PARAMETER_NAMES: Final = sorted(
    {name for of_model in PARAMETERS.values() for name in of_model}
    | {"negative_prompt", "prompt", "stream", "is_async"}
)
SIDECARS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "$schema": JSON_VALUES,
        "model": st.sampled_from(ELEVEN) | JSON_VALUES,
        "function": st.sampled_from(FUNCTIONS) | JSON_VALUES,
        "prompt": st.text(max_size=9) | JSON_VALUES,
        "negative_prompt": JSON_VALUES,
        "images": st.lists(JSON_VALUES, max_size=4) | JSON_VALUES,
        "mask": JSON_VALUES,
        "fit": st.booleans() | JSON_VALUES,
        "parameters": st.dictionaries(st.sampled_from(PARAMETER_NAMES), JSON_VALUES, max_size=5)
        | JSON_VALUES,
        "region": st.sampled_from(["beijing", "singapore", "virginia", "frankfurt"]) | JSON_VALUES,
        "call": st.sampled_from(["async", "sync"]) | JSON_VALUES,
        "labels": JSON_VALUES,
        "priority": JSON_VALUES,
        "other": JSON_VALUES,
    },
)
"""Sidecars that are wrong in every way, and now and then right."""
