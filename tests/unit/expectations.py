"""What a sidecar must be answered, row by row, written by hand from the provider's contract.

An independent witness: nothing here is derived from the registry or from the simulator. A row says
what stands in a sidecar, and what `sidecar.check` must find in it: the exact paths that are refused
or, where it is accepted, the exact paths that are warned of. Where the contract is open or contradicts
itself, the reading of its section 8 is followed and the row of that table is named; where section 8 is
silent too, there is no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue as Json


@dataclass(frozen=True)
class Expectation:
    """One sidecar, and the verdict on it.

    `top` holds further top-level fields (prompt, negative_prompt, region, call). `refused` and `warned`
    are exact sets of field paths; a row that refuses says nothing about warnings. `nearest` must stand
    in a refusal's message after the word "nearest ", as JSON.
    """

    contract: str
    model: str
    parameters: Mapping[str, Json] = field(default_factory=dict)
    function: str | None = None
    images: int = 1
    mask: bool = False
    top: Mapping[str, Json] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    warned: frozenset[str] = frozenset()
    nearest: str | None = None


def sidecar_of(e: Expectation) -> dict[str, Json]:
    """The raw sidecar that an expectation is about."""
    raw: dict[str, Json] = {
        "model": e.model,
        "prompt": "a red door",
        "images": [f"a{number}.png" for number in range(1, e.images + 1)],
        "parameters": dict(e.parameters),
    }
    if e.function is not None:
        raw["function"] = e.function
    if e.mask:
        raw["mask"] = "mask.png"
    raw.update(e.top)
    return raw


WANX: Final = "wanx2.1-imageedit"
QWEN: Final = "qwen-image-edit"
QWEN_PLUS: Final = "qwen-image-edit-plus"
QWEN_PLUS_OCTOBER: Final = "qwen-image-edit-plus-2025-10-30"
QWEN_PLUS_DECEMBER: Final = "qwen-image-edit-plus-2025-12-15"
QWEN_MAX: Final = "qwen-image-edit-max"
QWEN_MAX_JANUARY: Final = "qwen-image-edit-max-2026-01-16"
WAN25: Final = "wan2.5-i2i-preview"
WAN26: Final = "wan2.6-image"
WAN27: Final = "wan2.7-image"
WAN27_PRO: Final = "wan2.7-image-pro"


def _p(*names: str) -> frozenset[str]:
    """The paths of parameters."""
    return frozenset(f"parameters.{name}" for name in names)


def _f(*names: str) -> frozenset[str]:
    """The paths of top-level fields."""
    return frozenset(names)


def _palette(*ratios: str) -> list[Json]:
    """A palette of as many colours as ratios."""
    return [{"hex": f"#{index:02X}80C0", "ratio": ratio} for index, ratio in enumerate(ratios)]


# --- 3.2 wanx2.1-imageedit: Beijing only, asynchronous only, ten functions ------------------------

_WANX: Final = (
    # The ten functions, bare; one image each, the mask only where it is required.
    Expectation("3.2", WANX, function="stylization_all"),
    Expectation("3.2", WANX, function="stylization_local"),
    Expectation("3.2", WANX, function="description_edit"),
    Expectation("3.2", WANX, function="description_edit_with_mask", mask=True),
    Expectation("3.2", WANX, function="remove_watermark"),
    Expectation("3.2", WANX, function="expand"),
    Expectation("3.2", WANX, function="super_resolution"),
    Expectation("3.2", WANX, function="colorization"),
    Expectation("3.2", WANX, function="doodle"),
    Expectation("3.2", WANX, function="control_cartoon_feature"),
    # The function itself: required, one of the ten. Section 8 row 27: the SDK's typo is one.
    Expectation("3.2", WANX, refused=_f("function")),
    Expectation("3.2, 8 row 27", WANX, function="remove_watermaker", refused=_f("function")),
    Expectation("3.2", WANX, function="Doodle", refused=_f("function")),
    Expectation("3.2", WANX, function="", refused=_f("function")),
    Expectation("3.2", WANX, top={"function": 3}, refused=_f("function")),
    Expectation("3.2", WANX, top={"function": ["doodle"]}, refused=_f("function")),
    # The mask.
    Expectation("3.2", WANX, function="description_edit_with_mask", refused=_f("mask")),
    Expectation("3.2", WANX, function="description_edit", mask=True, refused=_f("mask")),
    Expectation("3.2", WANX, function="stylization_all", mask=True, refused=_f("mask")),
    Expectation("3.2", WANX, function="stylization_local", mask=True, refused=_f("mask")),
    Expectation("3.2", WANX, function="remove_watermark", mask=True, refused=_f("mask")),
    Expectation("3.2", WANX, function="expand", mask=True, refused=_f("mask")),
    Expectation("3.2", WANX, function="super_resolution", mask=True, refused=_f("mask")),
    Expectation("3.2", WANX, function="colorization", mask=True, refused=_f("mask")),
    Expectation("3.2", WANX, function="doodle", mask=True, refused=_f("mask")),
    Expectation("3.2", WANX, function="control_cartoon_feature", mask=True, refused=_f("mask")),
    # Exactly one image.
    Expectation("3.1, 3.2", WANX, function="doodle", images=0, refused=_f("images")),
    Expectation("3.1, 3.2", WANX, function="doodle", images=2, refused=_f("images")),
    Expectation(
        "3.1, 3.2",
        WANX,
        function="description_edit_with_mask",
        mask=True,
        images=2,
        refused=_f("images"),
    ),
    # The prompt: required for every function, at most 800 characters; section 8 row 23: not cut.
    Expectation("3.1, 3.2", WANX, function="colorization", top={"prompt": "x" * 800}),
    Expectation("3.1, 3.2", WANX, function="colorization", top={"prompt": "红" * 800}),
    Expectation(
        "3.2, 8 row 23",
        WANX,
        function="colorization",
        top={"prompt": "x" * 801},
        refused=_f("prompt"),
    ),
    Expectation(
        "3.2, 8 row 23",
        WANX,
        function="colorization",
        top={"prompt": "红" * 801},
        refused=_f("prompt"),
    ),
    Expectation("3.2", WANX, function="super_resolution", top={"prompt": ""}, refused=_f("prompt")),
    Expectation("3.2", WANX, function="remove_watermark", top={"prompt": ""}, refused=_f("prompt")),
    Expectation("3.2", WANX, function="doodle", top={"prompt": 7}, refused=_f("prompt")),
    # No negative prompt, anywhere.
    Expectation(
        "3.1, 3.2",
        WANX,
        function="doodle",
        top={"negative_prompt": "blurry"},
        refused=_f("negative_prompt"),
    ),
    Expectation(
        "3.1, 3.2",
        WANX,
        {"negative_prompt": "blurry"},
        function="doodle",
        refused=_p("negative_prompt"),
    ),
    # n: 1–4 for every function.
    Expectation("3.2", WANX, {"n": 1}, function="stylization_local"),
    Expectation("3.2", WANX, {"n": 4}, function="stylization_local"),
    Expectation("3.2", WANX, {"n": 4}, function="description_edit_with_mask", mask=True),
    Expectation("3.2", WANX, {"n": 0}, function="doodle", refused=_p("n"), nearest="1"),
    Expectation("3.2", WANX, {"n": 5}, function="doodle", refused=_p("n"), nearest="4"),
    Expectation("3.2", WANX, {"n": -1}, function="expand", refused=_p("n"), nearest="1"),
    Expectation("3.2", WANX, {"n": "2"}, function="doodle", refused=_p("n")),
    Expectation("3.2", WANX, {"n": True}, function="doodle", refused=_p("n")),
    Expectation("3.2", WANX, {"n": 1.5}, function="doodle", refused=_p("n")),
    Expectation("3.2", WANX, {"n": [1]}, function="doodle", refused=_p("n")),
    # seed: 0–2147483647.
    Expectation("3.1", WANX, {"seed": 0}, function="colorization"),
    Expectation("3.1", WANX, {"seed": 2147483647}, function="colorization"),
    Expectation(
        "3.1", WANX, {"seed": -1}, function="colorization", refused=_p("seed"), nearest="0"
    ),
    Expectation(
        "3.1",
        WANX,
        {"seed": 2147483648},
        function="colorization",
        refused=_p("seed"),
        nearest="2147483647",
    ),
    Expectation("3.1, 8 row 26", WANX, {"seed": "12345"}, function="doodle", refused=_p("seed")),
    Expectation("3.1", WANX, {"seed": False}, function="doodle", refused=_p("seed")),
    Expectation("3.1", WANX, {"seed": 7.5}, function="doodle", refused=_p("seed")),
    # watermark: a boolean.
    Expectation("3.1", WANX, {"watermark": True}, function="remove_watermark"),
    Expectation("3.1", WANX, {"watermark": False}, function="control_cartoon_feature"),
    Expectation("3.1", WANX, {"watermark": 1}, function="doodle", refused=_p("watermark")),
    Expectation("3.1", WANX, {"watermark": "true"}, function="doodle", refused=_p("watermark")),
    # strength: 0.0–1.0, for two functions.
    Expectation("3.2", WANX, {"strength": 0.0}, function="stylization_all"),
    Expectation("3.2", WANX, {"strength": 1.0}, function="stylization_all"),
    Expectation("3.2", WANX, {"strength": 0.5}, function="description_edit"),
    Expectation("3.2", WANX, {"strength": 0}, function="description_edit"),
    Expectation("3.2", WANX, {"strength": 1}, function="description_edit"),
    Expectation(
        "3.2",
        WANX,
        {"strength": -0.01},
        function="stylization_all",
        refused=_p("strength"),
        nearest="0",
    ),
    Expectation(
        "3.2",
        WANX,
        {"strength": 1.01},
        function="description_edit",
        refused=_p("strength"),
        nearest="1",
    ),
    Expectation(
        "3.2", WANX, {"strength": "0.5"}, function="stylization_all", refused=_p("strength")
    ),
    Expectation(
        "3.2", WANX, {"strength": True}, function="stylization_all", refused=_p("strength")
    ),
    Expectation(
        "3.2", WANX, {"strength": 0.5}, function="stylization_local", refused=_p("strength")
    ),
    Expectation(
        "3.2",
        WANX,
        {"strength": 0.5},
        function="description_edit_with_mask",
        mask=True,
        refused=_p("strength"),
    ),
    Expectation(
        "3.2", WANX, {"strength": 0.5}, function="remove_watermark", refused=_p("strength")
    ),
    Expectation("3.2", WANX, {"strength": 0.5}, function="expand", refused=_p("strength")),
    Expectation(
        "3.2", WANX, {"strength": 0.5}, function="super_resolution", refused=_p("strength")
    ),
    Expectation("3.2", WANX, {"strength": 0.5}, function="colorization", refused=_p("strength")),
    Expectation("3.2", WANX, {"strength": 0.5}, function="doodle", refused=_p("strength")),
    Expectation(
        "3.2",
        WANX,
        {"strength": 0.5},
        function="control_cartoon_feature",
        refused=_p("strength"),
    ),
    # The four scales: 1.0–2.0, for expand.
    Expectation(
        "3.2",
        WANX,
        {"top_scale": 1.0, "bottom_scale": 1, "left_scale": 1.0, "right_scale": 1},
        function="expand",
    ),
    Expectation(
        "3.2",
        WANX,
        {"top_scale": 2.0, "bottom_scale": 2, "left_scale": 2.0, "right_scale": 2},
        function="expand",
    ),
    Expectation(
        "3.2",
        WANX,
        {"top_scale": 0.99},
        function="expand",
        refused=_p("top_scale"),
        nearest="1",
    ),
    Expectation(
        "3.2",
        WANX,
        {"bottom_scale": 2.01},
        function="expand",
        refused=_p("bottom_scale"),
        nearest="2",
    ),
    Expectation(
        "3.2", WANX, {"left_scale": 0}, function="expand", refused=_p("left_scale"), nearest="1"
    ),
    Expectation(
        "3.2", WANX, {"right_scale": 3}, function="expand", refused=_p("right_scale"), nearest="2"
    ),
    Expectation("3.2", WANX, {"top_scale": "1.5"}, function="expand", refused=_p("top_scale")),
    Expectation("3.2", WANX, {"left_scale": True}, function="expand", refused=_p("left_scale")),
    Expectation(
        "3.2",
        WANX,
        {"top_scale": 2.5, "bottom_scale": 0.5, "left_scale": 1.5, "right_scale": "1"},
        function="expand",
        refused=_p("top_scale", "bottom_scale", "right_scale"),
    ),
    Expectation("3.2", WANX, {"top_scale": 1.5}, function="doodle", refused=_p("top_scale")),
    Expectation(
        "3.2",
        WANX,
        {"bottom_scale": 1.5},
        function="super_resolution",
        refused=_p("bottom_scale"),
    ),
    Expectation(
        "3.2", WANX, {"left_scale": 1.5}, function="description_edit", refused=_p("left_scale")
    ),
    Expectation(
        "3.2",
        WANX,
        {"right_scale": 1.5},
        function="description_edit_with_mask",
        mask=True,
        refused=_p("right_scale"),
    ),
    # upscale_factor: 1–4, for super_resolution.
    Expectation("3.2", WANX, {"upscale_factor": 1}, function="super_resolution"),
    Expectation("3.2", WANX, {"upscale_factor": 4}, function="super_resolution"),
    Expectation(
        "3.2",
        WANX,
        {"upscale_factor": 0},
        function="super_resolution",
        refused=_p("upscale_factor"),
        nearest="1",
    ),
    Expectation(
        "3.2",
        WANX,
        {"upscale_factor": 5},
        function="super_resolution",
        refused=_p("upscale_factor"),
        nearest="4",
    ),
    Expectation(
        "3.2",
        WANX,
        {"upscale_factor": 2.5},
        function="super_resolution",
        refused=_p("upscale_factor"),
    ),
    Expectation(
        "3.2",
        WANX,
        {"upscale_factor": "2"},
        function="super_resolution",
        refused=_p("upscale_factor"),
    ),
    Expectation(
        "3.2",
        WANX,
        {"upscale_factor": True},
        function="super_resolution",
        refused=_p("upscale_factor"),
    ),
    Expectation(
        "3.2", WANX, {"upscale_factor": 2}, function="expand", refused=_p("upscale_factor")
    ),
    Expectation(
        "3.2", WANX, {"upscale_factor": 1}, function="colorization", refused=_p("upscale_factor")
    ),
    # is_sketch: a boolean, for doodle.
    Expectation("3.2", WANX, {"is_sketch": True}, function="doodle"),
    Expectation("3.2", WANX, {"is_sketch": False}, function="doodle"),
    Expectation("3.2", WANX, {"is_sketch": 1}, function="doodle", refused=_p("is_sketch")),
    Expectation("3.2", WANX, {"is_sketch": "false"}, function="doodle", refused=_p("is_sketch")),
    Expectation(
        "3.2", WANX, {"is_sketch": True}, function="stylization_all", refused=_p("is_sketch")
    ),
    Expectation(
        "3.2",
        WANX,
        {"is_sketch": False},
        function="control_cartoon_feature",
        refused=_p("is_sketch"),
    ),
    # What other models have. Section 8 row 25: size and prompt_extend are a sample's copy-paste error.
    Expectation(
        "3.2, 8 row 25", WANX, {"size": "1024*1024"}, function="expand", refused=_p("size")
    ),
    Expectation(
        "3.2, 8 row 25",
        WANX,
        {"prompt_extend": True},
        function="description_edit",
        refused=_p("prompt_extend"),
    ),
    Expectation("3.2", WANX, {"stream": True}, function="doodle", refused=_p("stream")),
    Expectation("3.2, 7.1", WANX, {"is_async": True}, function="doodle", refused=_p("is_async")),
    Expectation(
        "3.2", WANX, {"thinking_mode": True}, function="doodle", refused=_p("thinking_mode")
    ),
    Expectation("3.2", WANX, {"bbox_list": [[]]}, function="doodle", refused=_p("bbox_list")),
    # Region and call.
    Expectation("1.1", WANX, function="doodle", top={"region": "beijing"}),
    Expectation("1.1", WANX, function="doodle", top={"region": "singapore"}, refused=_f("region")),
    Expectation("1.1", WANX, function="doodle", top={"region": "virginia"}, refused=_f("region")),
    Expectation("1.1", WANX, function="doodle", top={"region": "frankfurt"}, refused=_f("region")),
    Expectation("1.4", WANX, function="doodle", top={"call": "async"}),
    Expectation("1.4", WANX, function="doodle", top={"call": "sync"}, refused=_f("call")),
    # The contract's own largest examples, and several problems at once.
    Expectation(
        "3.2",
        WANX,
        {"n": 4, "seed": 20260402, "watermark": False},
        function="description_edit_with_mask",
        mask=True,
    ),
    Expectation(
        "3.2",
        WANX,
        {
            "top_scale": 1.2,
            "bottom_scale": 1.0,
            "left_scale": 1.5,
            "right_scale": 1.5,
            "n": 2,
            "seed": 7,
            "watermark": True,
        },
        function="expand",
    ),
    Expectation("3.2", WANX, {"upscale_factor": 4, "n": 1}, function="super_resolution"),
    Expectation("3.2", WANX, {"is_sketch": True, "n": 1}, function="doodle"),
    Expectation("3.2", WANX, {"strength": 0.35, "n": 1}, function="stylization_all"),
    Expectation(
        "3.2",
        WANX,
        {"n": 9, "seed": -5, "size": "1K"},
        function="doodle",
        images=3,
        mask=True,
        top={"prompt": "x" * 900, "negative_prompt": "blurry"},
        refused=_p("n", "seed", "size") | _f("images", "mask", "prompt", "negative_prompt"),
    ),
)

# --- 3.3 qwen-image-edit: one image, no size, no rewriting ---------------------------------------

_QWEN_BASE: Final = (
    Expectation("3.3", QWEN),
    # Section 8 row 22: 1–3 images.
    Expectation("3.3, 8 row 22", QWEN, images=3),
    Expectation("3.3", QWEN, images=0, refused=_f("images")),
    Expectation("3.3", QWEN, images=4, refused=_f("images")),
    Expectation("3.3", QWEN, top={"prompt": "x" * 800}),
    Expectation("3.3, 8 row 23", QWEN, top={"prompt": "x" * 801}, refused=_f("prompt")),
    Expectation("3.3", QWEN, top={"prompt": ""}, refused=_f("prompt")),
    Expectation("3.3", QWEN, top={"negative_prompt": "x" * 500}),
    Expectation(
        "3.3, 8 row 23",
        QWEN,
        top={"negative_prompt": "x" * 501},
        refused=_f("negative_prompt"),
    ),
    # Section 8 row 9: retouch puts it where the provider wants it.
    Expectation("3.3, 8 row 9", QWEN, {"negative_prompt": "blurry"}, refused=_p("negative_prompt")),
    Expectation("3.3", QWEN, {"n": 1}),
    Expectation("3.3", QWEN, {"n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.3", QWEN, {"n": 2}, refused=_p("n"), nearest="1"),
    Expectation("3.3", QWEN, {"n": 6}, refused=_p("n"), nearest="1"),
    Expectation("3.3", QWEN, {"n": "1"}, refused=_p("n")),
    Expectation("3.3", QWEN, {"n": True}, refused=_p("n")),
    Expectation("3.3", QWEN, {"size": "1024*1024"}, refused=_p("size")),
    Expectation("3.3", QWEN, {"prompt_extend": True}, refused=_p("prompt_extend")),
    Expectation("3.3", QWEN, {"prompt_extend": False}, refused=_p("prompt_extend")),
    Expectation("3.3", QWEN, {"watermark": True, "seed": 0}),
    Expectation("3.3", QWEN, {"watermark": "no"}, refused=_p("watermark")),
    Expectation("3.1", QWEN, {"seed": 2147483647}),
    Expectation("3.1", QWEN, {"seed": 2147483648}, refused=_p("seed"), nearest="2147483647"),
    Expectation("3.1", QWEN, {"seed": -1}, refused=_p("seed"), nearest="0"),
    Expectation("3.3", QWEN, function="description_edit", refused=_f("function")),
    Expectation("3.3", QWEN, mask=True, refused=_f("mask")),
    Expectation("3.3", QWEN, {"strength": 0.5}, refused=_p("strength")),
    Expectation("3.3, 8 row 39", QWEN, {"is_async": True}, refused=_p("is_async")),
    Expectation("1.4", QWEN, top={"call": "sync"}),
    Expectation("1.4, 8 row 39", QWEN, top={"call": "async"}, refused=_f("call")),
    Expectation("1.1", QWEN, top={"region": "singapore"}),
    Expectation("1.1", QWEN, top={"region": "virginia"}, refused=_f("region")),
)

# --- 3.3 qwen-image-edit-plus: one to six images of a size ---------------------------------------

_QWEN_PLUS: Final = (
    Expectation("3.3", QWEN_PLUS),
    Expectation("3.3", QWEN_PLUS, images=3),
    Expectation("3.3", QWEN_PLUS, images=0, refused=_f("images")),
    Expectation("3.3", QWEN_PLUS, images=4, refused=_f("images")),
    Expectation("3.3", QWEN_PLUS, top={"prompt": "x" * 800}),
    Expectation("3.3", QWEN_PLUS, top={"prompt": "𠮷" * 800}),
    Expectation("3.3, 8 row 23", QWEN_PLUS, top={"prompt": "x" * 801}, refused=_f("prompt")),
    Expectation("3.3", QWEN_PLUS, top={"prompt": ["a"]}, refused=_f("prompt")),
    Expectation("3.3", QWEN_PLUS, top={"negative_prompt": "x" * 500}),
    Expectation(
        "3.3", QWEN_PLUS, top={"negative_prompt": "x" * 501}, refused=_f("negative_prompt")
    ),
    Expectation("3.3", QWEN_PLUS, top={"negative_prompt": 1}, refused=_f("negative_prompt")),
    Expectation(
        "3.3, 8 row 9", QWEN_PLUS, {"negative_prompt": "blurry"}, refused=_p("negative_prompt")
    ),
    Expectation("3.3", QWEN_PLUS, {"n": 1}),
    Expectation("3.3", QWEN_PLUS, {"n": 6}),
    Expectation("3.3", QWEN_PLUS, {"n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.3", QWEN_PLUS, {"n": 7}, refused=_p("n"), nearest="6"),
    Expectation("3.3", QWEN_PLUS, {"n": 10**30}, refused=_p("n"), nearest="6"),
    Expectation("3.3", QWEN_PLUS, {"n": 2.5}, refused=_p("n")),
    Expectation("3.3", QWEN_PLUS, {"n": True}, refused=_p("n")),
    # size: W*H, each side 512–2048, no ratio asked.
    Expectation("3.3", QWEN_PLUS, {"size": "512*512"}),
    Expectation("3.3", QWEN_PLUS, {"size": "2048*2048"}),
    Expectation("3.3", QWEN_PLUS, {"size": "512*2048"}),
    Expectation("3.3", QWEN_PLUS, {"size": "2048*512"}),
    Expectation("3.3", QWEN_PLUS, {"size": "2048*872"}),
    Expectation("3.3", QWEN_PLUS, {"size": "1033*1032"}),
    Expectation("3.3", QWEN_PLUS, {"size": "511*1024"}, refused=_p("size"), nearest='"512*1024"'),
    Expectation("3.3", QWEN_PLUS, {"size": "1024*511"}, refused=_p("size"), nearest='"1024*512"'),
    Expectation("3.3", QWEN_PLUS, {"size": "2049*1024"}, refused=_p("size"), nearest='"2048*1024"'),
    Expectation("3.3", QWEN_PLUS, {"size": "1024*2049"}, refused=_p("size"), nearest='"1024*2048"'),
    Expectation("3.3", QWEN_PLUS, {"size": "1K"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": "1024x1024"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": "1024"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": "1024 * 1024"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": "1024*1024\n"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": "01024*1024"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": "1024*1024*1"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": "１０２４*1024"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": "-1024*1024"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": ""}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": 1024}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"size": [1024, 1024]}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS, {"prompt_extend": True}),
    Expectation("3.3", QWEN_PLUS, {"prompt_extend": False}),
    Expectation("3.3", QWEN_PLUS, {"prompt_extend": "true"}, refused=_p("prompt_extend")),
    Expectation("3.3", QWEN_PLUS, {"prompt_extend": 0}, refused=_p("prompt_extend")),
    Expectation("3.1", QWEN_PLUS, {"watermark": True}),
    Expectation("3.1", QWEN_PLUS, {"watermark": 0}, refused=_p("watermark")),
    Expectation("3.1", QWEN_PLUS, {"seed": 0}),
    Expectation("3.1", QWEN_PLUS, {"seed": 2147483647}),
    Expectation("3.1", QWEN_PLUS, {"seed": -1}, refused=_p("seed"), nearest="0"),
    Expectation("3.1", QWEN_PLUS, {"seed": 2147483648}, refused=_p("seed"), nearest="2147483647"),
    Expectation("3.1", QWEN_PLUS, {"seed": True}, refused=_p("seed")),
    Expectation("3.3", QWEN_PLUS, {"stream": False}, refused=_p("stream")),
    Expectation("3.3", QWEN_PLUS, {"enable_interleave": True}, refused=_p("enable_interleave")),
    Expectation("3.3", QWEN_PLUS, {"max_images": 2}, refused=_p("max_images")),
    Expectation("3.3", QWEN_PLUS, {"thinking_mode": True}, refused=_p("thinking_mode")),
    Expectation("3.3", QWEN_PLUS, {"bbox_list": [[]]}, refused=_p("bbox_list")),
    Expectation("3.3", QWEN_PLUS, function="doodle", refused=_f("function")),
    Expectation("3.3", QWEN_PLUS, mask=True, refused=_f("mask")),
    Expectation("1.4", QWEN_PLUS, top={"call": "sync"}),
    Expectation("1.4, 8 row 39", QWEN_PLUS, top={"call": "async"}, refused=_f("call")),
    Expectation("1.1", QWEN_PLUS, top={"region": "beijing"}),
    Expectation("1.1", QWEN_PLUS, top={"region": "singapore"}),
    Expectation("1.1", QWEN_PLUS, top={"region": "virginia"}, refused=_f("region")),
    Expectation("1.1", QWEN_PLUS, top={"region": "frankfurt"}, refused=_f("region")),
    Expectation("1.1", QWEN_PLUS, top={"region": "hongkong"}, refused=_f("region")),
    Expectation("1.1", QWEN_PLUS, top={"region": 1}, refused=_f("region")),
    Expectation(
        "3.3",
        QWEN_PLUS,
        {"n": 8, "size": "100*100", "prompt_extend": "no", "strength": 1},
        images=5,
        refused=_p("n", "size", "prompt_extend", "strength") | _f("images"),
    ),
)

# --- 3.3 the other ids of the family: the same rules, each by its own name ------------------------

_QWEN_OTHERS: Final = (
    Expectation("3.3", QWEN_PLUS_OCTOBER, images=3),
    Expectation("3.3", QWEN_PLUS_OCTOBER, images=4, refused=_f("images")),
    Expectation("3.3", QWEN_PLUS_OCTOBER, images=0, refused=_f("images")),
    Expectation("3.3", QWEN_PLUS_OCTOBER, {"n": 6, "size": "512*2048", "prompt_extend": True}),
    Expectation("3.3", QWEN_PLUS_OCTOBER, {"n": 7}, refused=_p("n"), nearest="6"),
    Expectation("3.3", QWEN_PLUS_OCTOBER, {"size": "511*512"}, refused=_p("size")),
    Expectation("3.3", QWEN_PLUS_OCTOBER, top={"prompt": "x" * 801}, refused=_f("prompt")),
    Expectation("1.4", QWEN_PLUS_OCTOBER, top={"call": "async"}, refused=_f("call")),
    Expectation("1.1", QWEN_PLUS_OCTOBER, top={"region": "singapore"}),
    Expectation("1.1", QWEN_PLUS_OCTOBER, top={"region": "frankfurt"}, refused=_f("region")),
    Expectation(
        "3.3",
        QWEN_PLUS_DECEMBER,
        {"n": 6, "size": "1024*1536", "prompt_extend": False, "watermark": False, "seed": 42},
        images=3,
        top={"negative_prompt": "blurry, extra fingers"},
    ),
    Expectation("3.3", QWEN_PLUS_DECEMBER, images=4, refused=_f("images")),
    Expectation("3.3", QWEN_PLUS_DECEMBER, {"n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.3", QWEN_PLUS_DECEMBER, {"n": 7}, refused=_p("n"), nearest="6"),
    Expectation(
        "3.3", QWEN_PLUS_DECEMBER, {"size": "2049*2048"}, refused=_p("size"), nearest='"2048*2048"'
    ),
    Expectation(
        "3.3",
        QWEN_PLUS_DECEMBER,
        top={"negative_prompt": "x" * 501},
        refused=_f("negative_prompt"),
    ),
    Expectation("1.4", QWEN_PLUS_DECEMBER, top={"call": "async"}, refused=_f("call")),
    Expectation("1.1", QWEN_PLUS_DECEMBER, top={"region": "virginia"}, refused=_f("region")),
    Expectation("3.3", QWEN_MAX, images=3),
    Expectation("3.3", QWEN_MAX, images=0, refused=_f("images")),
    Expectation("3.3", QWEN_MAX, images=4, refused=_f("images")),
    Expectation("3.3", QWEN_MAX, {"n": 1}),
    Expectation("3.3", QWEN_MAX, {"n": 6}),
    Expectation("3.3", QWEN_MAX, {"n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.3", QWEN_MAX, {"n": 7}, refused=_p("n"), nearest="6"),
    Expectation("3.3", QWEN_MAX, {"size": "512*512", "prompt_extend": True, "watermark": True}),
    Expectation("3.3", QWEN_MAX, {"size": "2048*511"}, refused=_p("size"), nearest='"2048*512"'),
    Expectation("3.3", QWEN_MAX, {"size": "2K"}, refused=_p("size")),
    Expectation("3.3", QWEN_MAX, {"seed": 2147483648}, refused=_p("seed"), nearest="2147483647"),
    Expectation("3.3", QWEN_MAX, top={"prompt": "x" * 800, "negative_prompt": "x" * 500}),
    Expectation(
        "3.3",
        QWEN_MAX,
        top={"prompt": "x" * 801, "negative_prompt": "x" * 501},
        refused=_f("prompt", "negative_prompt"),
    ),
    Expectation("3.3", QWEN_MAX, mask=True, refused=_f("mask")),
    Expectation("1.4", QWEN_MAX, top={"call": "sync", "region": "singapore"}),
    Expectation("1.4", QWEN_MAX, top={"call": "async"}, refused=_f("call")),
    Expectation("1.1", QWEN_MAX, top={"region": "virginia"}, refused=_f("region")),
    Expectation("3.3", QWEN_MAX_JANUARY, {"n": 6, "size": "2048*2048"}, images=3),
    Expectation("3.3", QWEN_MAX_JANUARY, {"n": 7}, refused=_p("n"), nearest="6"),
    Expectation(
        "3.3", QWEN_MAX_JANUARY, {"size": "2048*2049"}, refused=_p("size"), nearest='"2048*2048"'
    ),
    Expectation("3.3", QWEN_MAX_JANUARY, images=4, refused=_f("images")),
    Expectation("3.3", QWEN_MAX_JANUARY, top={"prompt": "x" * 801}, refused=_f("prompt")),
    Expectation("1.4", QWEN_MAX_JANUARY, top={"call": "async"}, refused=_f("call")),
    Expectation("1.1", QWEN_MAX_JANUARY, top={"region": "beijing"}),
    Expectation("1.1", QWEN_MAX_JANUARY, top={"region": "frankfurt"}, refused=_f("region")),
)

# --- 3.4 wan2.5-i2i-preview: asynchronous only, sizes by area -------------------------------------

_WAN25: Final = (
    Expectation("3.4", WAN25),
    Expectation("3.4", WAN25, images=3),
    Expectation("3.4", WAN25, images=0, refused=_f("images")),
    Expectation("3.4", WAN25, images=4, refused=_f("images")),
    Expectation("3.4", WAN25, top={"prompt": "x" * 2000}),
    Expectation("3.4", WAN25, top={"prompt": "红" * 2000}),
    Expectation("3.4, 8 row 23", WAN25, top={"prompt": "x" * 2001}, refused=_f("prompt")),
    Expectation("3.4", WAN25, top={"negative_prompt": "x" * 500}),
    Expectation("3.4", WAN25, top={"negative_prompt": "x" * 501}, refused=_f("negative_prompt")),
    Expectation(
        "3.4, 8 row 9", WAN25, {"negative_prompt": "blurry"}, refused=_p("negative_prompt")
    ),
    Expectation("3.4", WAN25, {"n": 1}),
    Expectation("3.4", WAN25, {"n": 4}),
    Expectation("3.4", WAN25, {"n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.4", WAN25, {"n": 5}, refused=_p("n"), nearest="4"),
    Expectation("3.4", WAN25, {"n": "4"}, refused=_p("n")),
    Expectation("3.4", WAN25, {"n": True}, refused=_p("n")),
    Expectation("3.4", WAN25, {"n": 3.5}, refused=_p("n")),
    # size: area 589 824 … 1 638 400, ratio 1:4 … 4:1, no tiers.
    Expectation("3.4", WAN25, {"size": "768*768"}),
    Expectation("3.4", WAN25, {"size": "1280*1280"}),
    Expectation("3.4", WAN25, {"size": "1344*576"}),
    Expectation("3.4", WAN25, {"size": "384*1536"}),  # 589 824 and 1:4, both just so
    Expectation("3.4", WAN25, {"size": "1536*384"}),
    Expectation("3.4", WAN25, {"size": "640*2560"}),  # 1 638 400 and 1:4, both just so
    Expectation("3.4", WAN25, {"size": "2560*640"}),
    Expectation("3.4", WAN25, {"size": "767*769"}, refused=_p("size")),  # 589 823
    Expectation("3.4", WAN25, {"size": "767*768"}, refused=_p("size")),
    Expectation("3.4", WAN25, {"size": "1281*1280"}, refused=_p("size")),
    Expectation("3.4", WAN25, {"size": "1279*1281"}),  # 1 638 399
    Expectation("3.4", WAN25, {"size": "399*1600"}, refused=_p("size")),  # 1:4.01
    Expectation("3.4", WAN25, {"size": "1601*400"}, refused=_p("size")),  # 4.0025:1
    Expectation("3.4", WAN25, {"size": "1600*400"}),
    Expectation("3.4", WAN25, {"size": "1K"}, refused=_p("size")),
    Expectation("3.4", WAN25, {"size": "2K"}, refused=_p("size")),
    Expectation("3.4", WAN25, {"size": "1280x1280"}, refused=_p("size")),
    Expectation("3.4", WAN25, {"size": "0800*1200"}, refused=_p("size")),
    Expectation("3.4", WAN25, {"size": 1280}, refused=_p("size")),
    Expectation("3.4", WAN25, {"prompt_extend": True}),
    Expectation("3.4", WAN25, {"prompt_extend": False}),
    Expectation("3.4", WAN25, {"prompt_extend": 1}, refused=_p("prompt_extend")),
    Expectation("3.4", WAN25, {"watermark": True}),
    Expectation("3.4", WAN25, {"watermark": "false"}, refused=_p("watermark")),
    Expectation("3.1", WAN25, {"seed": 0}),
    Expectation("3.1", WAN25, {"seed": 2147483647}),
    Expectation("3.1", WAN25, {"seed": -1}, refused=_p("seed"), nearest="0"),
    Expectation("3.1", WAN25, {"seed": 2147483648}, refused=_p("seed"), nearest="2147483647"),
    Expectation("3.4, 8 row 26", WAN25, {"seed": "12345"}, refused=_p("seed")),
    Expectation("3.4", WAN25, function="doodle", refused=_f("function")),
    Expectation("3.4", WAN25, mask=True, refused=_f("mask")),
    Expectation("3.4", WAN25, {"strength": 0.5}, refused=_p("strength")),
    Expectation("3.4", WAN25, {"enable_interleave": False}, refused=_p("enable_interleave")),
    Expectation("3.4", WAN25, {"bbox_list": [[]]}, refused=_p("bbox_list")),
    Expectation("7.1", WAN25, {"is_async": True}, refused=_p("is_async")),
    Expectation("1.4", WAN25, top={"call": "async"}),
    Expectation("1.4", WAN25, top={"call": "sync"}, refused=_f("call")),
    Expectation("1.4", WAN25, top={"call": "batch"}, refused=_f("call")),
    Expectation("1.1", WAN25, top={"region": "beijing"}),
    Expectation("1.1", WAN25, top={"region": "singapore"}),
    Expectation("1.1", WAN25, top={"region": "virginia"}, refused=_f("region")),
    Expectation("1.1", WAN25, top={"region": "frankfurt"}, refused=_f("region")),
    Expectation(
        "3.4",
        WAN25,
        {"size": "1280*960", "n": 4, "prompt_extend": True, "watermark": False, "seed": 12345},
        images=3,
        top={"negative_prompt": "distorted perspective"},
    ),
)

# --- 3.5 wan2.6-image: edit, and text with images (interleave) -----------------------------------

_WAN26: Final = (
    # Edit.
    Expectation("3.5", WAN26),
    Expectation("3.5", WAN26, images=4),
    Expectation("3.5", WAN26, images=0, refused=_f("images")),
    Expectation("3.5", WAN26, images=5, refused=_f("images")),
    Expectation("3.5", WAN26, {"enable_interleave": False}, images=4),
    Expectation("3.5", WAN26, {"enable_interleave": False}, images=0, refused=_f("images")),
    Expectation("3.5", WAN26, {"enable_interleave": 1}, refused=_p("enable_interleave")),
    Expectation("3.5", WAN26, {"enable_interleave": "true"}, refused=_p("enable_interleave")),
    Expectation("3.5", WAN26, top={"prompt": "x" * 2000}),
    Expectation("3.5, 8 row 23", WAN26, top={"prompt": "x" * 2001}, refused=_f("prompt")),
    Expectation("3.5", WAN26, top={"prompt": ""}, refused=_f("prompt")),
    Expectation("3.5", WAN26, top={"negative_prompt": "x" * 500}),
    Expectation("3.5", WAN26, top={"negative_prompt": "x" * 501}, refused=_f("negative_prompt")),
    Expectation(
        "3.5, 8 row 9", WAN26, {"negative_prompt": "clutter"}, refused=_p("negative_prompt")
    ),
    Expectation("3.5", WAN26, {"n": 1}),
    Expectation("3.5", WAN26, {"n": 4}),
    Expectation("3.5", WAN26, {"n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.5", WAN26, {"n": 5}, refused=_p("n"), nearest="4"),
    Expectation("3.5", WAN26, {"n": True}, refused=_p("n")),
    Expectation("3.5", WAN26, {"n": 1.5}, refused=_p("n")),
    # Edit sizes: 1K, 2K, or area 589 824 … 4 194 304 with ratio 1:4 … 4:1.
    Expectation("3.5", WAN26, {"size": "1K"}),
    Expectation("3.5", WAN26, {"size": "2K"}),
    Expectation("3.5", WAN26, {"size": "4K"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"size": "3K"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"size": "768*768"}),
    Expectation("3.5", WAN26, {"size": "2048*2048"}),
    Expectation("3.5", WAN26, {"size": "4096*1024"}),  # 4 194 304 and 4:1, both just so
    Expectation("3.5", WAN26, {"size": "1024*4096"}),
    Expectation("3.5", WAN26, {"size": "1536*384"}),  # 589 824 and 4:1, both just so
    Expectation("3.5", WAN26, {"size": "767*769"}, refused=_p("size")),  # 589 823
    Expectation("3.5", WAN26, {"size": "2048*2049"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"size": "2047*2049"}),  # 4 194 303
    Expectation("3.5", WAN26, {"size": "1537*384"}, refused=_p("size")),  # 4.003:1
    Expectation("3.5", WAN26, {"size": "512*2049"}, refused=_p("size")),  # 1:4.002
    Expectation("3.5", WAN26, {"size": "512*2048"}),
    Expectation("3.5", WAN26, {"size": "2K*2K"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"size": "1024,1024"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"size": True}, refused=_p("size")),
    Expectation("3.5", WAN26, {"prompt_extend": False}),
    Expectation("3.5", WAN26, {"prompt_extend": "yes"}, refused=_p("prompt_extend")),
    # max_images is ignored while editing.
    Expectation("3.5", WAN26, {"max_images": 5}, warned=_p("max_images")),
    Expectation(
        "3.5", WAN26, {"enable_interleave": False, "max_images": 1}, warned=_p("max_images")
    ),
    Expectation("3.5", WAN26, {"watermark": True, "seed": 0}),
    Expectation("3.5", WAN26, {"watermark": 1}, refused=_p("watermark")),
    Expectation("3.1", WAN26, {"seed": 2147483647}),
    Expectation("3.1", WAN26, {"seed": -1}, refused=_p("seed"), nearest="0"),
    Expectation("3.1", WAN26, {"seed": 2147483648}, refused=_p("seed"), nearest="2147483647"),
    # Interleave.
    Expectation("3.5", WAN26, {"enable_interleave": True}, images=0),
    Expectation("3.5", WAN26, {"enable_interleave": True}, images=1),
    Expectation("3.5", WAN26, {"enable_interleave": True}, images=2, refused=_f("images")),
    Expectation("3.5", WAN26, {"enable_interleave": True, "n": 1}),
    Expectation("3.5", WAN26, {"enable_interleave": True, "n": 2}, refused=_p("n"), nearest="1"),
    Expectation("3.5", WAN26, {"enable_interleave": True, "n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.5", WAN26, {"enable_interleave": True, "n": True}, refused=_p("n")),
    Expectation("3.5", WAN26, {"enable_interleave": True, "max_images": 1}),
    Expectation("3.5", WAN26, {"enable_interleave": True, "max_images": 5}),
    Expectation(
        "3.5",
        WAN26,
        {"enable_interleave": True, "max_images": 0},
        refused=_p("max_images"),
        nearest="1",
    ),
    Expectation(
        "3.5",
        WAN26,
        {"enable_interleave": True, "max_images": 6},
        refused=_p("max_images"),
        nearest="5",
    ),
    Expectation(
        "3.5", WAN26, {"enable_interleave": True, "max_images": "3"}, refused=_p("max_images")
    ),
    Expectation(
        "3.5", WAN26, {"enable_interleave": True, "max_images": True}, refused=_p("max_images")
    ),
    Expectation(
        "3.5",
        WAN26,
        {"enable_interleave": True, "prompt_extend": True},
        warned=_p("prompt_extend"),
    ),
    Expectation(
        "3.5",
        WAN26,
        {"enable_interleave": True, "prompt_extend": False},
        images=0,
        warned=_p("prompt_extend"),
    ),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "1K"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "2K"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "768*768"}),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "1280*1280"}, images=0),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "2560*640"}),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "1281*1280"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "2048*2048"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "767*768"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"enable_interleave": True, "size": "1601*400"}, refused=_p("size")),
    Expectation("3.5", WAN26, {"enable_interleave": True}, top={"negative_prompt": "x" * 500}),
    Expectation(
        "3.5",
        WAN26,
        {"enable_interleave": True},
        top={"negative_prompt": "x" * 501},
        refused=_f("negative_prompt"),
    ),
    # stream is a matter of transport. Section 8 row 15.
    Expectation(
        "3.5, 8 row 15",
        WAN26,
        {"enable_interleave": True, "stream": True},
        refused=_p("stream"),
    ),
    Expectation("3.5", WAN26, {"stream": False}, refused=_p("stream")),
    Expectation("7.1", WAN26, {"is_async": True}, refused=_p("is_async")),
    # What others have.
    Expectation("3.5", WAN26, {"enable_sequential": True}, refused=_p("enable_sequential")),
    Expectation("3.5", WAN26, {"thinking_mode": True}, refused=_p("thinking_mode")),
    Expectation("3.5", WAN26, {"bbox_list": [[]]}, refused=_p("bbox_list")),
    Expectation(
        "3.5",
        WAN26,
        {"color_palette": _palette("50.00%", "25.00%", "25.00%")},
        refused=_p("color_palette"),
    ),
    Expectation("3.5", WAN26, function="expand", refused=_f("function")),
    Expectation("3.5", WAN26, mask=True, refused=_f("mask")),
    # Regions: all four; Frankfurt is asynchronous only.
    Expectation("1.1", WAN26, top={"region": "beijing", "call": "sync"}),
    Expectation("1.1", WAN26, top={"region": "singapore", "call": "async"}),
    Expectation("1.1", WAN26, top={"region": "virginia", "call": "sync"}),
    Expectation("1.1", WAN26, top={"region": "virginia", "call": "async"}),
    Expectation("1.1, 3.5", WAN26, top={"region": "frankfurt", "call": "async"}),
    Expectation("1.1, 3.5", WAN26, top={"region": "frankfurt"}),
    Expectation("1.1, 3.5", WAN26, top={"region": "frankfurt", "call": "sync"}, refused=_f("call")),
    Expectation("1.1", WAN26, top={"region": "mars"}, refused=_f("region")),
    Expectation("1.4", WAN26, top={"call": "sync"}),
    Expectation("1.4", WAN26, top={"call": "async"}),
    Expectation("1.4", WAN26, {"enable_interleave": True}, top={"call": "async"}),
    # Synchronous interleave exists, as a stream (3.5, 4.6).
    Expectation("1.4, 3.5", WAN26, {"enable_interleave": True}, top={"call": "sync"}),
    Expectation("1.4", WAN26, top={"call": True}, refused=_f("call")),
    # The contract's own largest examples.
    Expectation(
        "3.5",
        WAN26,
        {
            "enable_interleave": False,
            "size": "2K",
            "n": 4,
            "prompt_extend": True,
            "watermark": False,
            "seed": 99,
        },
        images=4,
        top={"negative_prompt": "text, watermark"},
    ),
    Expectation(
        "3.5",
        WAN26,
        {
            "enable_interleave": True,
            "max_images": 3,
            "n": 1,
            "size": "1280*1280",
            "watermark": False,
            "seed": 5,
        },
        top={"negative_prompt": "clutter"},
    ),
    Expectation(
        "3.5",
        WAN26,
        {"enable_interleave": True, "n": 3, "max_images": 9, "size": "2K", "seed": "1"},
        images=4,
        refused=_p("n", "max_images", "size", "seed") | _f("images"),
    ),
)

# --- 3.6 wan2.7-image: edits, text to image and sets ---------------------------------------------

_WAN27: Final = (
    Expectation("3.6", WAN27, images=0),
    Expectation("3.6", WAN27, images=1),
    Expectation("3.6", WAN27, images=9),
    Expectation("3.6", WAN27, images=10, refused=_f("images")),
    Expectation("3.6", WAN27, top={"prompt": "x" * 5000}),
    Expectation("3.6", WAN27, top={"prompt": "红" * 5000}),
    Expectation("3.6, 8 row 23", WAN27, top={"prompt": "x" * 5001}, refused=_f("prompt")),
    # Section 8 row 10: a text is required.
    Expectation("3.6, 8 row 10", WAN27, top={"prompt": ""}, refused=_f("prompt")),
    # Section 8 row 8: no negative prompt.
    Expectation(
        "3.6, 8 row 8", WAN27, top={"negative_prompt": "blurry"}, refused=_f("negative_prompt")
    ),
    Expectation(
        "3.6, 8 row 8", WAN27, {"negative_prompt": "blurry"}, refused=_p("negative_prompt")
    ),
    Expectation("3.6", WAN27, {"prompt_extend": True}, refused=_p("prompt_extend")),
    Expectation("3.6", WAN27, {"enable_interleave": False}, refused=_p("enable_interleave")),
    Expectation("3.6", WAN27, {"max_images": 4}, refused=_p("max_images")),
    Expectation("3.6", WAN27, {"stream": True}, refused=_p("stream")),
    Expectation("7.1", WAN27, {"is_async": True}, refused=_p("is_async")),
    Expectation("3.6", WAN27, {"strength": 0.5}, refused=_p("strength")),
    Expectation("3.6", WAN27, function="description_edit", refused=_f("function")),
    Expectation("3.6", WAN27, mask=True, refused=_f("mask")),
    # n: 1–4, or 1–12 for a set.
    Expectation("3.6, 8 row 1", WAN27, {"n": 1}),
    Expectation("3.6", WAN27, {"n": 4}),
    Expectation("3.6", WAN27, {"n": 4}, images=0),
    Expectation("3.6", WAN27, {"n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.6", WAN27, {"n": 5}, refused=_p("n"), nearest="4"),
    Expectation("3.6", WAN27, {"n": 5}, images=0, refused=_p("n"), nearest="4"),
    Expectation("3.6", WAN27, {"n": 12, "enable_sequential": False}, refused=_p("n"), nearest="4"),
    Expectation("3.6", WAN27, {"n": "4"}, refused=_p("n")),
    Expectation("3.6", WAN27, {"n": True}, refused=_p("n")),
    Expectation("3.6", WAN27, {"n": 2.5}, refused=_p("n")),
    Expectation("3.6", WAN27, {"enable_sequential": True, "n": 1}),
    Expectation("3.6", WAN27, {"enable_sequential": True, "n": 5}, images=0),
    Expectation("3.6", WAN27, {"enable_sequential": True, "n": 12}),
    Expectation("3.6", WAN27, {"enable_sequential": True, "n": 12}, images=9),
    Expectation("3.6", WAN27, {"enable_sequential": True, "n": 0}, refused=_p("n"), nearest="1"),
    Expectation("3.6", WAN27, {"enable_sequential": True, "n": 13}, refused=_p("n"), nearest="12"),
    Expectation("3.6", WAN27, {"enable_sequential": True}, images=10, refused=_f("images")),
    Expectation("3.6", WAN27, {"enable_sequential": "true"}, refused=_p("enable_sequential")),
    Expectation("3.6", WAN27, {"enable_sequential": 1}, refused=_p("enable_sequential")),
    # size: 1K, 2K, or area 589 824 … 4 194 304 with ratio 1:8 … 8:1; never 4K.
    Expectation("3.6", WAN27, {"size": "1K"}),
    Expectation("3.6", WAN27, {"size": "2K"}, images=0),
    Expectation("3.6", WAN27, {"size": "2K", "enable_sequential": True}),
    Expectation("3.6", WAN27, {"size": "4K"}, refused=_p("size")),
    Expectation("3.6", WAN27, {"size": "4K"}, images=0, refused=_p("size")),
    Expectation("3.6", WAN27, {"size": "768*768"}),
    Expectation("3.6", WAN27, {"size": "2048*2048"}),
    Expectation("3.6", WAN27, {"size": "2047*2049"}),  # 4 194 303
    Expectation("3.6", WAN27, {"size": "767*769"}, refused=_p("size")),  # 589 823
    Expectation("3.6", WAN27, {"size": "2048*2049"}, refused=_p("size")),
    Expectation("3.6", WAN27, {"size": "2049*2048"}, images=0, refused=_p("size")),
    Expectation("3.6", WAN27, {"size": "4096*4096"}, images=0, refused=_p("size")),
    Expectation("3.6", WAN27, {"size": "2176*272"}),  # 591 872, 8:1 just so
    Expectation("3.6", WAN27, {"size": "272*2176"}),
    Expectation("3.6", WAN27, {"size": "5792*724"}),  # 4 193 408, 8:1 just so
    Expectation("3.6", WAN27, {"size": "2177*272"}, refused=_p("size")),  # 8.004:1
    Expectation("3.6", WAN27, {"size": "724*5793"}, refused=_p("size")),  # 1:8.001
    Expectation("3.6", WAN27, {"size": "2168*271"}, refused=_p("size")),  # 587 528
    Expectation("3.6", WAN27, {"size": "2K*2K"}, refused=_p("size")),
    Expectation("3.6", WAN27, {"size": "1024X1024"}, refused=_p("size")),
    Expectation("3.6", WAN27, {"size": "1024*1024 "}, refused=_p("size")),
    Expectation("3.6", WAN27, {"size": 2048}, refused=_p("size")),
    # thinking_mode: effective for text to image, not for sets. Section 8 row 6: a boolean.
    Expectation("3.6, 8 row 6", WAN27, {"thinking_mode": True}, images=0),
    Expectation("3.6, 8 row 6", WAN27, {"thinking_mode": False}, images=0),
    Expectation("3.6, 8 row 6", WAN27, {"thinking_mode": True}, warned=_p("thinking_mode")),
    Expectation("3.6, 8 row 6", WAN27, {"thinking_mode": False}, warned=_p("thinking_mode")),
    Expectation(
        "3.6",
        WAN27,
        {"thinking_mode": True, "enable_sequential": True},
        images=0,
        warned=_p("thinking_mode"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"thinking_mode": True, "enable_sequential": True},
        images=2,
        warned=_p("thinking_mode"),
    ),
    Expectation("3.6", WAN27, {"thinking_mode": True, "enable_sequential": False}, images=0),
    Expectation(
        "3.6, 8 row 6", WAN27, {"thinking_mode": "fast"}, images=0, refused=_p("thinking_mode")
    ),
    Expectation("3.6", WAN27, {"thinking_mode": 1}, images=0, refused=_p("thinking_mode")),
    # color_palette: 3–10 colours, ratios of two decimals, together 100.00%. Section 8 row 7: a list.
    Expectation("3.6", WAN27, {"color_palette": _palette("33.34%", "33.33%", "33.33%")}),
    Expectation("3.6", WAN27, {"color_palette": _palette("0.10%", "0.20%", "99.70%")}, images=0),
    Expectation("3.6", WAN27, {"color_palette": _palette(*["10.00%"] * 10)}),
    Expectation("3.6", WAN27, {"color_palette": _palette(*["12.50%"] * 8)}),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("50.00%", "50.00%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette(*["9.00%"] * 10, "10.00%")},
        refused=_p("color_palette"),
    ),
    Expectation("3.6", WAN27, {"color_palette": []}, refused=_p("color_palette")),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("33.33%", "33.33%", "33.33%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("33.34%", "33.34%", "33.33%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6", WAN27, {"color_palette": _palette("50%", "25%", "25%")}, refused=_p("color_palette")
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("50.0%", "25.00%", "25.00%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("50.000%", "25.00%", "25.00%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("50.00", "25.00%", "25.00%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("50,00%", "25.00%", "25.00%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("-10.00%", "60.00%", "50.00%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("50.00%\n", "25.00%", "25.00%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "25.00%"), {"hex": "#C2D1E6", "ratio": 25.0}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "25.00%"), {"hex": "#C2D1E", "ratio": "25.00%"}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "25.00%"), {"hex": "C2D1E6", "ratio": "25.00%"}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "25.00%"), {"hex": "#C2D1G6", "ratio": "25.00%"}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "25.00%"), {"hex": "#C2D1E6FF", "ratio": "25.00%"}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "25.00%"), {"hex": "#C2D1E6\n", "ratio": "25.00%"}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "25.00%"), {"hex": "red", "ratio": "25.00%"}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "50.00%"), {"hex": "#C2D1E6"}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": [*_palette("50.00%", "25.00%"), {"ratio": "25.00%"}]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": ["#112233", "#445566", "#778899"]},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6, 8 row 7", WAN27, {"color_palette": "#112233,#445566"}, refused=_p("color_palette")
    ),
    Expectation(
        "3.6, 8 row 7",
        WAN27,
        {"color_palette": {"hex": "#112233", "ratio": "100.00%"}},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("50.00%", "25.00%", "25.00%"), "enable_sequential": True},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"color_palette": _palette("50.00%", "25.00%", "25.00%"), "enable_sequential": False},
    ),
    # bbox_list: one list for each image, at most two boxes in it.
    Expectation("3.6", WAN27, {"bbox_list": [[]]}),
    Expectation("3.6", WAN27, {"bbox_list": [[[0, 0, 512, 512]]]}),
    Expectation("3.6", WAN27, {"bbox_list": [[[0, 0, 10, 10], [20, 20, 30, 30]]]}),
    Expectation("3.6", WAN27, {"bbox_list": [[], [], []]}, images=3),
    Expectation("3.6", WAN27, {"bbox_list": [[[1, 2, 3, 4]], [], [[5, 6, 7, 8]]]}, images=3),
    Expectation("3.6", WAN27, {"bbox_list": [[]] * 9}, images=9),
    Expectation(
        "3.6",
        WAN27,
        {"bbox_list": [[[0, 0, 9, 9], [10, 10, 19, 19], [20, 20, 29, 29]]]},
        refused=_p("bbox_list"),
    ),
    Expectation(
        "3.6",
        WAN27,
        {"bbox_list": [[], [[0, 0, 9, 9], [10, 10, 19, 19], [20, 20, 29, 29]]]},
        images=2,
        refused=_p("bbox_list"),
    ),
    Expectation("3.6", WAN27, {"bbox_list": [[], []]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[]]}, images=2, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": []}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[0, 0, 10, 10]]]}, images=0, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[]]}, images=0, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[10, 0, 5, 10]]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[0, 10, 10, 5]]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[30, 30, 10, 10]]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[-1, 0, 10, 10]]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[0, 0, 10]]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[0, 0, 10, 10, 10]]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[0, 0, 10.5, 10]]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[["0", "0", "9", "9"]]]}, refused=_p("bbox_list")),
    Expectation(
        "3.6", WAN27, {"bbox_list": [[[False, False, True, True]]]}, refused=_p("bbox_list")
    ),
    Expectation("3.6", WAN27, {"bbox_list": [[0, 0, 10, 10]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [[[]]]}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": "0,0,10,10"}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": {"0": []}}, refused=_p("bbox_list")),
    Expectation("3.6", WAN27, {"bbox_list": [{}]}, refused=_p("bbox_list")),
    # watermark, seed.
    Expectation("3.1", WAN27, {"watermark": True, "seed": 0}),
    Expectation("3.1", WAN27, {"watermark": "true"}, refused=_p("watermark")),
    Expectation("3.1", WAN27, {"seed": 2147483647}),
    Expectation("3.1", WAN27, {"seed": -1}, refused=_p("seed"), nearest="0"),
    Expectation("3.1", WAN27, {"seed": 2147483648}, refused=_p("seed"), nearest="2147483647"),
    Expectation("3.1", WAN27, {"seed": 0.5}, refused=_p("seed")),
    # Region and call.
    Expectation("1.1", WAN27, top={"region": "beijing"}),
    Expectation("1.1", WAN27, top={"region": "singapore"}),
    Expectation("1.1", WAN27, top={"region": "virginia"}, refused=_f("region")),
    Expectation("1.1", WAN27, top={"region": "frankfurt"}, refused=_f("region")),
    Expectation("1.4", WAN27, top={"call": "async"}),
    Expectation("1.4", WAN27, top={"call": "sync"}),
    Expectation("1.4", WAN27, {"enable_sequential": True}, top={"call": "sync"}),
    Expectation("1.4", WAN27, top={"call": "stream"}, refused=_f("call")),
    Expectation(
        "3.6",
        WAN27,
        {"n": 5, "size": "4K", "bbox_list": [], "prompt_extend": True},
        images=10,
        mask=True,
        top={"negative_prompt": "blurry"},
        refused=_p("n", "size", "bbox_list", "prompt_extend")
        | _f("images", "mask", "negative_prompt"),
    ),
)

# --- 3.6 wan2.7-image-pro: as wan2.7-image, and up to 4K for plain text to image ------------------

_WAN27_PRO: Final = (
    Expectation("3.6", WAN27_PRO, images=0),
    Expectation("3.6", WAN27_PRO, images=9),
    Expectation("3.6", WAN27_PRO, images=10, refused=_f("images")),
    Expectation("3.6", WAN27_PRO, top={"prompt": "x" * 5000}),
    Expectation("3.6", WAN27_PRO, top={"prompt": "x" * 5001}, refused=_f("prompt")),
    Expectation(
        "3.6, 8 row 8", WAN27_PRO, top={"negative_prompt": "x"}, refused=_f("negative_prompt")
    ),
    Expectation("3.6", WAN27_PRO, {"prompt_extend": False}, refused=_p("prompt_extend")),
    Expectation("3.6", WAN27_PRO, {"n": 4}),
    Expectation("3.6", WAN27_PRO, {"n": 5}, refused=_p("n"), nearest="4"),
    Expectation("3.6", WAN27_PRO, {"enable_sequential": True, "n": 12}),
    Expectation(
        "3.6", WAN27_PRO, {"enable_sequential": True, "n": 13}, refused=_p("n"), nearest="12"
    ),
    # 4K and areas to 16 777 216: text to image, no set.
    Expectation("3.6", WAN27_PRO, {"size": "4K"}, images=0),
    Expectation("3.6", WAN27_PRO, {"size": "4K", "enable_sequential": False}, images=0),
    Expectation("3.6", WAN27_PRO, {"size": "4K", "n": 1, "thinking_mode": True}, images=0),
    Expectation("3.6", WAN27_PRO, {"size": "4K"}, images=1, refused=_p("size")),
    Expectation("3.6", WAN27_PRO, {"size": "4K"}, images=9, refused=_p("size")),
    Expectation(
        "3.6", WAN27_PRO, {"size": "4K", "enable_sequential": True}, images=0, refused=_p("size")
    ),
    Expectation(
        "3.6", WAN27_PRO, {"size": "4K", "enable_sequential": True}, images=1, refused=_p("size")
    ),
    Expectation("3.6", WAN27_PRO, {"size": "8K"}, images=0, refused=_p("size")),
    Expectation("3.6", WAN27_PRO, {"size": "1K"}, images=0),
    Expectation("3.6", WAN27_PRO, {"size": "2K"}),
    Expectation("3.6", WAN27_PRO, {"size": "4096*4096"}, images=0),
    Expectation("3.6", WAN27_PRO, {"size": "4095*4097"}, images=0),  # 16 777 215
    Expectation("3.6", WAN27_PRO, {"size": "11584*1448"}, images=0),  # 16 773 632, 8:1 just so
    Expectation("3.6", WAN27_PRO, {"size": "768*768"}, images=0),
    Expectation("3.6", WAN27_PRO, {"size": "2049*2048"}, images=0),
    Expectation("3.6", WAN27_PRO, {"size": "4097*4096"}, images=0, refused=_p("size")),
    Expectation("3.6", WAN27_PRO, {"size": "11585*1448"}, images=0, refused=_p("size")),  # 8.001:1
    Expectation("3.6", WAN27_PRO, {"size": "767*769"}, images=0, refused=_p("size")),  # 589 823
    Expectation("3.6", WAN27_PRO, {"size": "2048*2048"}),
    Expectation("3.6", WAN27_PRO, {"size": "2049*2048"}, refused=_p("size")),
    Expectation("3.6", WAN27_PRO, {"size": "4096*4096"}, refused=_p("size")),
    Expectation("3.6", WAN27_PRO, {"size": "2048*2048", "enable_sequential": True}, images=0),
    Expectation(
        "3.6",
        WAN27_PRO,
        {"size": "2049*2048", "enable_sequential": True},
        images=0,
        refused=_p("size"),
    ),
    Expectation("3.6", WAN27_PRO, {"thinking_mode": True}, images=0),
    Expectation("3.6", WAN27_PRO, {"thinking_mode": True}, warned=_p("thinking_mode")),
    Expectation(
        "3.6",
        WAN27_PRO,
        {"thinking_mode": True, "enable_sequential": True},
        images=0,
        warned=_p("thinking_mode"),
    ),
    Expectation(
        "3.6",
        WAN27_PRO,
        {"color_palette": _palette("40.00%", "35.50%", "24.50%")},
        images=0,
    ),
    Expectation(
        "3.6",
        WAN27_PRO,
        {"color_palette": _palette("40.00%", "35.50%", "24.49%")},
        refused=_p("color_palette"),
    ),
    Expectation(
        "3.6",
        WAN27_PRO,
        {"color_palette": _palette("40.00%", "35.50%", "24.50%"), "enable_sequential": True},
        refused=_p("color_palette"),
    ),
    Expectation("3.6", WAN27_PRO, {"bbox_list": [[[0, 0, 1, 1]], []]}, images=2),
    Expectation("3.6", WAN27_PRO, {"bbox_list": [[], []]}, images=3, refused=_p("bbox_list")),
    Expectation("1.1", WAN27_PRO, top={"region": "singapore", "call": "sync"}),
    Expectation("1.1", WAN27_PRO, top={"region": "virginia"}, refused=_f("region")),
    Expectation("1.4", WAN27_PRO, top={"call": "async"}),
    # The contract's own largest examples.
    Expectation(
        "3.6",
        WAN27_PRO,
        {
            "size": "2K",
            "n": 4,
            "enable_sequential": False,
            "bbox_list": [[[620, 140, 780, 300]], [[0, 0, 512, 512]], []],
            "color_palette": [
                {"hex": "#C2D1E6", "ratio": "40.00%"},
                {"hex": "#636574", "ratio": "35.50%"},
                {"hex": "#F4E3B2", "ratio": "24.50%"},
            ],
            "watermark": False,
            "seed": 2147483647,
        },
        images=3,
    ),
    Expectation(
        "3.6",
        WAN27_PRO,
        {"enable_sequential": True, "n": 12, "size": "2K", "watermark": False, "seed": 1},
    ),
)

# --- 1.4, 3.3 models that are none ----------------------------------------------------------------

_NO_MODEL: Final = (
    Expectation("3.3", "qwen-image-edit-max-2025-12-15", refused=_f("model")),
    Expectation("3.3", "qwen-image", refused=_f("model")),
    Expectation("3.6", "wan2.7-image-PRO", refused=_f("model")),
    Expectation("1.4", "", refused=_f("model")),
)

EXPECTATIONS: Final[tuple[Expectation, ...]] = (
    *_WANX,
    *_QWEN_BASE,
    *_QWEN_PLUS,
    *_QWEN_OTHERS,
    *_WAN25,
    *_WAN26,
    *_WAN27,
    *_WAN27_PRO,
    *_NO_MODEL,
)
