"""The tables of the models against the numbers of the provider contract, written out by hand."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retouch.registry import (
    MODELS,
    REGIONS,
    RESULT_HOSTS,
    Boxes,
    Integer,
    Json,
    Mode,
    Number,
    Palette,
    Size,
    When,
)

from .helpers import QWEN, WAN, WANX

MIB = 1_048_576
PLUS_SIZE = Size(sides=(512, 2048))
WAN_SIZE = Size(tiers=("1K", "2K"), area=(589_824, 4_194_304), ratio=8.0)


def test_the_three_models_are_known_and_no_other() -> None:
    assert set(MODELS) == {WANX, QWEN, WAN}
    assert {name: model.name for name, model in MODELS.items()} == {n: n for n in MODELS}


@pytest.mark.parametrize(
    ("name", "mode", "path", "regions"),
    [
        pytest.param(
            WANX, Mode.ASYNC, "services/aigc/image2image/image-synthesis", {"beijing"}, id="wanx2.1"
        ),
        pytest.param(
            QWEN,
            Mode.SYNC,
            "services/aigc/multimodal-generation/generation",
            {"beijing", "singapore"},
            id="qwen",
        ),
        pytest.param(
            WAN,
            Mode.ASYNC,
            "services/aigc/image-generation/generation",
            {"beijing", "singapore"},
            id="wan2.7",
        ),
    ],
)
def test_each_model_is_called_on_its_own_path_and_in_its_own_regions(
    name: str, mode: Mode, path: str, regions: set[str]
) -> None:
    model = MODELS[name]
    assert (model.mode, model.path, set(model.regions)) == (mode, path, regions)
    assert set(model.regions) <= set(REGIONS)


@pytest.mark.parametrize(
    ("name", "creates", "running"),
    [
        pytest.param(WANX, 2, 2, id="wanx2.1: two a second, two at once"),
        pytest.param(QWEN, 2, None, id="qwen: two a second, no number at once"),
        pytest.param(WAN, 5, 5, id="wan2.7: five a second, five at once"),
    ],
)
def test_quotas_are_those_of_contract_3_1(name: str, creates: int, running: int | None) -> None:
    quota = MODELS[name].quota
    assert (quota.creates, quota.per_seconds, quota.running) == (creates, 1.0, running)
    assert 1 / creates <= quota.interval <= 2 / creates  # never faster, and not much slower


@pytest.mark.parametrize(
    ("name", "count", "formats", "max_bytes", "sides", "advised", "ratio", "alpha"),
    [
        pytest.param(
            WANX,
            (1, 1),
            {"JPEG", "PNG", "BMP", "TIFF", "WEBP"},
            10 * MIB,
            (512, 4096),
            None,
            None,
            True,
            id="wanx2.1",
        ),
        pytest.param(
            QWEN,
            (1, 3),
            {"JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"},
            10 * MIB,
            None,
            (384, 3072),
            None,
            True,
            id="qwen",
        ),
        pytest.param(
            WAN,
            (0, 9),
            {"JPEG", "PNG", "BMP", "WEBP"},
            20 * MIB,
            (240, 8000),
            None,
            8.0,
            False,
            id="wan2.7",
        ),
    ],
)
def test_image_limits_are_those_of_the_contract_at_a_glance(
    name: str,
    count: tuple[int, int],
    formats: set[str],
    max_bytes: int,
    sides: tuple[int, int] | None,
    advised: tuple[int, int] | None,
    ratio: float | None,
    alpha: bool,
) -> None:
    images = MODELS[name].images
    assert (images.least, images.most) == count
    assert set(images.formats) == formats
    assert images.max_bytes == max_bytes
    assert images.sides == sides
    assert images.advised_sides == advised
    assert images.ratio == ratio
    assert images.alpha is alpha


def test_only_wanx_demands_urls_in_ascii() -> None:
    assert {name: m.images.ascii_urls for name, m in MODELS.items()} == {
        WANX: True,
        QWEN: False,
        WAN: False,
    }


def test_prompt_limits_are_those_of_the_contract_at_a_glance() -> None:
    assert {n: (m.prompt_chars, m.negative_prompt_chars) for n, m in MODELS.items()} == {
        WANX: (800, None),
        QWEN: (800, 500),
        WAN: (5000, None),
    }


def test_parameters_are_those_the_contract_lists_and_no_other() -> None:
    assert {name: set(model.by_name) for name, model in MODELS.items()} == {
        WANX: {
            "n", "seed", "watermark", "strength", "top_scale", "bottom_scale", "left_scale",
            "right_scale", "upscale_factor", "is_sketch",
        },
        QWEN: {"n", "size", "prompt_extend", "watermark", "seed"},
        WAN: {
            "n", "size", "enable_sequential", "thinking_mode", "color_palette", "bbox_list",
            "watermark", "seed",
        },
    }  # fmt: skip


def test_wanx_has_its_ten_functions_and_one_of_them_takes_a_mask() -> None:
    assert {f.name: f.mask for f in MODELS[WANX].functions} == {
        "stylization_all": False,
        "stylization_local": False,
        "description_edit": False,
        "description_edit_with_mask": True,
        "remove_watermark": False,
        "expand": False,
        "super_resolution": False,
        "colorization": False,
        "doodle": False,
        "control_cartoon_feature": False,
    }
    assert MODELS[QWEN].functions == ()
    assert MODELS[WAN].functions == ()


def test_a_function_is_found_by_its_exact_name_only() -> None:
    found = MODELS[WANX].function("remove_watermark")
    assert found is not None
    assert found.name == "remove_watermark"
    assert MODELS[WANX].function("remove_watermaker") is None  # the SDK's typo, contract 3.2
    assert MODELS[WANX].function(None) is None


@pytest.mark.parametrize("name", [WANX, WAN])
def test_asynchronous_models_are_first_asked_within_five_seconds_and_never_twice_a_second(
    name: str,
) -> None:
    polling = MODELS[name].polling
    assert polling is not None
    assert 2 <= polling.first <= 5
    assert polling.interval >= 2


def test_a_synchronous_model_is_not_polled() -> None:
    assert MODELS[QWEN].polling is None


def test_the_ten_result_hosts_are_exactly_those_of_contract_6_3() -> None:
    assert set(RESULT_HOSTS) == {
        "dashscope-result-bj.oss-cn-beijing.aliyuncs.com",
        "dashscope-result-hz.oss-cn-hangzhou.aliyuncs.com",
        "dashscope-result-sh.oss-cn-shanghai.aliyuncs.com",
        "dashscope-result-wlcb.oss-cn-wulanchabu.aliyuncs.com",
        "dashscope-result-zjk.oss-cn-zhangjiakou.aliyuncs.com",
        "dashscope-result-sz.oss-cn-shenzhen.aliyuncs.com",
        "dashscope-result-hy.oss-cn-heyuan.aliyuncs.com",
        "dashscope-result-cd.oss-cn-chengdu.aliyuncs.com",
        "dashscope-result-gz.oss-cn-guangzhou.aliyuncs.com",
        "dashscope-result-wlcb-acdr-1.oss-cn-wulanchabu-acdr-1.aliyuncs.com",
    }
    assert len(RESULT_HOSTS) == 10


# --- conditions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "sequential", "has_images", "holds"),
    [
        pytest.param(When(), False, False, True, id="no condition holds always"),
        pytest.param(When(), True, True, True, id="no condition holds always, too"),
        pytest.param(When(sequential=True), True, False, True, id="sequential"),
        pytest.param(When(sequential=True), False, False, False, id="not sequential"),
        pytest.param(When(images=False), False, True, False, id="there are images"),
        pytest.param(When(sequential=False, images=False), False, False, True, id="both hold"),
        pytest.param(When(sequential=False, images=False), False, True, False, id="one fails"),
        pytest.param(When(sequential=False, images=False), True, False, False, id="the other"),
    ],
)
def test_a_condition_holds_where_all_its_parts_do(
    when: When, sequential: bool, has_images: bool, holds: bool
) -> None:
    assert when.holds({"enable_sequential": sequential}, has_images) is holds


def test_sequential_is_off_unless_it_is_true() -> None:
    assert When(sequential=False).holds({}, False)
    assert When(sequential=False).holds({"enable_sequential": "true"}, False)


def test_the_number_of_images_is_exact_but_for_a_sequence() -> None:
    exact = MODELS[WAN].exact_count
    assert exact.holds({"enable_sequential": False}, True)
    assert not exact.holds({"enable_sequential": True}, True)
    assert MODELS[QWEN].exact_count.holds({}, True)


# --- ranges ----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers())
@example(10**400)
@example(-(10**400))
def test_the_nearest_whole_number_is_always_within_the_range(value: int) -> None:
    kind = Integer(1, 4)
    fault = kind.check(value)
    if fault is None:
        assert 1 <= value <= 4
    else:
        assert fault.nearest == (1 if value < 1 else 4)


@settings(deadline=None)
@given(st.one_of(st.integers(), st.floats(allow_nan=False)))
@example(10**400)
@example(-(10**400))
@example(float("inf"))
def test_the_nearest_number_is_always_within_the_range(value: float) -> None:
    kind = Number(0.0, 1.0)
    fault = kind.check(value)
    if fault is None:
        assert 0 <= value <= 1
    else:
        assert fault.nearest == (0.0 if value < 0 else 1.0)


@pytest.mark.parametrize(
    ("kind", "value", "nearest"),
    [
        pytest.param(PLUS_SIZE, "511*512", "512*512", id="a side too short"),
        pytest.param(PLUS_SIZE, "2049*1024", "2048*1024", id="a side too long"),
        pytest.param(PLUS_SIZE, "100*9999", "512*2048", id="both sides"),
        pytest.param(PLUS_SIZE, "1024x768", "1024*768", id="x for *"),
        pytest.param(PLUS_SIZE, "1024 × 768", "1024*768", id="the sign for times"),
        pytest.param(WAN_SIZE, "2k", "2K", id="a tier in small letters"),
        pytest.param(WAN_SIZE, "4096*4096", "2048*2048", id="area too large"),
        pytest.param(WAN_SIZE, "512*512", "768*768", id="area too small"),
    ],
)
def test_the_nearest_size_is_said(kind: Size, value: str, nearest: str) -> None:
    fault = kind.check(value)
    assert fault is not None
    assert fault.nearest == nearest


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from([PLUS_SIZE, WAN_SIZE]),
    width=st.integers(1, 99_999),
    height=st.integers(1, 99_999),
    sign=st.sampled_from(["*", "x", " X ", "×"]),
)
def test_a_size_that_is_suggested_is_itself_allowed(
    kind: Size, width: int, height: int, sign: str
) -> None:
    fault = kind.check(f"{width}{sign}{height}")
    if fault is not None and fault.nearest is not None:
        assert kind.check(fault.nearest) is None


@settings(max_examples=300, deadline=None)
@given(width=st.integers(10, 9000), height=st.integers(10, 9000))
def test_a_size_is_allowed_exactly_where_area_and_ratio_are(width: int, height: int) -> None:
    longest, shortest = max(width, height), min(width, height)
    expected = 768 * 768 <= width * height <= 2048 * 2048 and longest <= 8 * shortest
    assert (WAN_SIZE.check(f"{width}*{height}") is None) is expected


@settings(max_examples=300, deadline=None)
@given(width=st.integers(10, 5000), height=st.integers(10, 5000))
def test_a_size_is_allowed_exactly_where_both_sides_are(width: int, height: int) -> None:
    expected = 512 <= width <= 2048 and 512 <= height <= 2048
    assert (PLUS_SIZE.check(f"{width}*{height}") is None) is expected


@pytest.mark.parametrize(
    "value",
    ["", "*", "1024", "1024*", "*1024", "1024*1024*1", "01024*1024", "-1024*1024", "1024*1024\n",
     "1024.0*1024", "１０２４*1024", "1K2K", "999999*2", 1024, None, True, [1024, 1024]],
)  # fmt: skip
def test_what_is_no_size_is_refused(value: Json) -> None:
    assert PLUS_SIZE.check(value) is not None
    assert WAN_SIZE.check(value) is not None


def test_boxes_and_palettes_refuse_what_is_no_list() -> None:
    values: list[Json] = [None, 1, "x", True, {}]
    for kind in (Boxes(), Palette()):
        for value in values:
            assert kind.check(value) is not None
