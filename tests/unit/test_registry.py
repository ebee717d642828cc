"""The tables of the models against the numbers of the provider contract, written out by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retouch.registry import (
    ALWAYS,
    MODELS,
    QUERIES_PER_SECOND,
    READINGS,
    REGIONS,
    RESULT_HOSTS,
    Body,
    Boxes,
    Count,
    Fault,
    Flag,
    Integer,
    Json,
    Mode,
    Number,
    Palette,
    Results,
    Size,
    When,
    faults,
    snapshot,
)

from .helpers import (
    ELEVEN,
    FUNCTIONS,
    PARAMETERS,
    QWEN,
    QWEN_BASE,
    QWEN_DECEMBER,
    QWEN_JANUARY,
    QWEN_MAX,
    QWEN_OCTOBER,
    WAN,
    WAN_25,
    WAN_26,
    WAN_PRO,
    WANX,
    palette,
    parameters_of,
)

MIB = 1_048_576
SYNTHESIS = "services/aigc/image2image/image-synthesis"
GENERATION = "services/aigc/image-generation/generation"
MULTIMODAL = "services/aigc/multimodal-generation/generation"
PHOTO = {"JPEG", "PNG", "BMP", "WEBP"}
BOTH = {"beijing", "singapore"}
PLUS_SIZE = Size(sides=(512, 2048))
WAN_25_SIZE = Size(area=(589_824, 1_638_400), ratio=4.0)
TIERS_26 = {"1K": 1280, "2K": 2048}
TIERS_27 = {"1K": 1024, "2K": 2048}
WAN_SIZE = Size(tiers=TIERS_27, area=(589_824, 4_194_304), ratio=8.0)


def test_the_eleven_models_are_known_and_no_other() -> None:
    assert set(MODELS) == set(ELEVEN)
    assert len(MODELS) == 11
    assert {name: model.name for name, model in MODELS.items()} == {n: n for n in MODELS}


@pytest.mark.parametrize(
    ("name", "calls", "body", "results", "regions"),
    [  # contract 1.1 and 1.4
        (WANX, {Mode.ASYNC: SYNTHESIS}, Body.FLAT_2_1, Results.RESULTS, {"beijing"}),
        *(
            (name, {Mode.SYNC: MULTIMODAL}, Body.MESSAGES, Results.CHOICES, BOTH)
            for name in (QWEN_BASE, QWEN, QWEN_OCTOBER, QWEN_DECEMBER, QWEN_MAX, QWEN_JANUARY)
        ),
        (WAN_25, {Mode.ASYNC: SYNTHESIS}, Body.FLAT_2_5, Results.RESULTS, BOTH),
        (
            WAN_26,
            {Mode.ASYNC: GENERATION, Mode.SYNC: MULTIMODAL},
            Body.MESSAGES,
            Results.CHOICES,
            {"beijing", "singapore", "virginia", "frankfurt"},
        ),
        *(
            (
                name,
                {Mode.ASYNC: GENERATION, Mode.SYNC: MULTIMODAL},
                Body.MESSAGES,
                Results.CHOICES,
                BOTH,
            )
            for name in (WAN, WAN_PRO)
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_model_is_called_on_its_own_paths_and_in_its_own_regions(
    name: str, calls: Mapping[Mode, str], body: Body, results: Results, regions: set[str]
) -> None:
    model = MODELS[name]
    assert dict(model.calls) == calls
    assert (model.body, model.results) == (body, results)
    assert set(model.regions) == regions
    assert set(model.regions) <= set(REGIONS)


def test_a_model_that_can_be_called_both_ways_is_called_asynchronously_unless_told() -> None:
    synchronous = {name for name, model in MODELS.items() if model.call is Mode.SYNC}
    assert synchronous == {QWEN_BASE, QWEN, QWEN_OCTOBER, QWEN_DECEMBER, QWEN_MAX, QWEN_JANUARY}
    assert {name for name, model in MODELS.items() if len(model.calls) == 2} == {
        WAN_26, WAN, WAN_PRO,
    }  # fmt: skip


def test_regions_and_their_base_urls_are_those_of_contract_1_1() -> None:
    assert {name: region.base_url for name, region in REGIONS.items()} == {
        "beijing": "https://dashscope.aliyuncs.com/api/v1",
        "singapore": "https://dashscope-intl.aliyuncs.com/api/v1",
        "virginia": "https://dashscope-us.aliyuncs.com/api/v1",
        "frankfurt": None,
    }
    assert {name: set(region.calls) for name, region in REGIONS.items()} == {
        "beijing": {Mode.ASYNC, Mode.SYNC},
        "singapore": {Mode.ASYNC, Mode.SYNC},
        "virginia": {Mode.ASYNC, Mode.SYNC},
        "frankfurt": {Mode.ASYNC},
    }


@pytest.mark.parametrize(
    ("name", "region", "calls"),
    [
        (WANX, "beijing", {Mode.ASYNC}),
        (WANX, "singapore", set()),
        (QWEN_MAX, "singapore", {Mode.SYNC}),
        (QWEN_MAX, "virginia", set()),
        (WAN_25, "singapore", {Mode.ASYNC}),
        (WAN_25, "frankfurt", set()),
        (WAN_26, "beijing", {Mode.ASYNC, Mode.SYNC}),
        (WAN_26, "virginia", {Mode.ASYNC, Mode.SYNC}),
        (WAN_26, "frankfurt", {Mode.ASYNC}),
        (WAN_PRO, "singapore", {Mode.ASYNC, Mode.SYNC}),
        (WAN_PRO, "frankfurt", set()),
        (WAN, "mars", set()),
    ],
)
def test_what_a_region_offers_is_what_region_and_model_both_have(
    name: str, region: str, calls: set[Mode]
) -> None:
    assert set(MODELS[name].calls_in(region)) == calls


@pytest.mark.parametrize(
    ("name", "creates", "per_seconds", "running"),
    [
        (WANX, 2, 1.0, 2),
        (QWEN_BASE, 2, 1.0, None),
        (QWEN, 2, 1.0, None),
        (QWEN_OCTOBER, 2, 1.0, None),
        (QWEN_DECEMBER, 2, 1.0, None),
        (QWEN_MAX, 2, 60.0, None),
        (QWEN_JANUARY, 2, 60.0, None),
        (WAN_25, 5, 1.0, 5),
        (WAN_26, 5, 1.0, 5),
        (WAN, 5, 1.0, 5),
        (WAN_PRO, 5, 1.0, 5),
    ],
)
def test_quotas_are_those_of_contract_3_1(
    name: str, creates: int, per_seconds: float, running: int | None
) -> None:
    quota = MODELS[name].quota
    assert (quota.creates, quota.per_seconds, quota.running) == (creates, per_seconds, running)
    least = per_seconds / creates  # never faster, and not much slower
    assert least <= quota.interval <= 2 * least


QWEN_IMAGES = ((1, 3), PHOTO | {"TIFF", "GIF"}, 10 * MIB, None, (384, 3072), None, True)
WAN_27_IMAGES = ((0, 9), PHOTO, 20 * MIB, (240, 8000), None, 8.0, False)


@pytest.mark.parametrize(
    ("name", "count", "formats", "max_bytes", "sides", "advised", "ratio", "alpha"),
    [
        (WANX, (1, 1), PHOTO | {"TIFF"}, 10 * MIB, (512, 4096), None, None, True),
        (QWEN_BASE, *QWEN_IMAGES),
        (QWEN, *QWEN_IMAGES),
        (QWEN_OCTOBER, *QWEN_IMAGES),
        (QWEN_DECEMBER, *QWEN_IMAGES),
        (QWEN_MAX, *QWEN_IMAGES),
        (QWEN_JANUARY, *QWEN_IMAGES),
        (WAN_25, (1, 3), PHOTO, 10 * MIB, (384, 5000), None, 4.0, False),
        (WAN_26, (1, 4), PHOTO, 10 * MIB, (240, 8000), None, None, False),
        (WAN, *WAN_27_IMAGES),
        (WAN_PRO, *WAN_27_IMAGES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
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
    plainly = images.count_for({})
    assert (plainly.least, plainly.most) == count
    assert set(images.formats) == formats
    assert images.max_bytes == max_bytes
    assert images.sides == sides
    assert images.advised_sides == advised
    assert images.ratio == ratio
    assert images.alpha is alpha


@pytest.mark.parametrize(
    ("name", "parameters", "least", "most"),
    [
        (WAN_26, {"enable_interleave": True}, 0, 1),
        (WAN_26, {"enable_interleave": False}, 1, 4),
        (WAN_26, {"enable_interleave": "true"}, 1, 4),
        (WAN_26, {"enable_sequential": True}, 1, 4),
        (WAN, {"enable_sequential": True}, 0, 9),
        (WAN_PRO, {"enable_sequential": True}, 0, 9),
        (QWEN, {"enable_interleave": True}, 1, 3),
    ],
)
def test_how_many_images_hangs_on_the_mode(
    name: str, parameters: dict[str, Json], least: int, most: int
) -> None:
    count = MODELS[name].images.count_for(parameters)
    assert (count.least, count.most) == (least, most)


@pytest.mark.parametrize("name", ELEVEN)
def test_the_last_count_of_a_model_holds_always(name: str) -> None:
    assert MODELS[name].images.counts[-1].when == ALWAYS
    assert all(isinstance(count, Count) for count in MODELS[name].images.counts)


def test_formats_that_may_travel_in_a_request_are_those_of_contract_3_1() -> None:
    assert {name: set(m.images.data_urls) for name, m in MODELS.items()} == {
        name: PHOTO | ({"TIFF"} if name == WANX else set()) for name in ELEVEN
    }


def test_prompt_limits_are_those_of_the_contract_at_a_glance() -> None:
    assert {n: (m.prompt_chars, m.negative_prompt_chars) for n, m in MODELS.items()} == {
        WANX: (800, None),
        QWEN_BASE: (800, 500),
        QWEN: (800, 500),
        QWEN_OCTOBER: (800, 500),
        QWEN_DECEMBER: (800, 500),
        QWEN_MAX: (800, 500),
        QWEN_JANUARY: (800, 500),
        WAN_25: (2000, 500),
        WAN_26: (2000, 500),
        WAN: (5000, None),
        WAN_PRO: (5000, None),
    }


def test_parameters_are_those_the_contract_lists_and_no_other() -> None:
    assert {name: set(model.by_name) for name, model in MODELS.items()} == PARAMETERS
    assert sum(len(model.parameters) for model in MODELS.values()) == sum(
        len(model.by_name) for model in MODELS.values()
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_has_its_own_parameters(function: str) -> None:
    having = {parameter.name for parameter in MODELS[WANX].having(function)}
    assert having == parameters_of(WANX, function)


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
    assert [name for name, model in MODELS.items() if model.functions] == [WANX]


def test_only_the_parameters_of_expand_mean_a_side_of_the_image() -> None:
    assert [f.name for f in MODELS[WANX].functions if f.placed] == ["expand"]


def test_words_that_the_provider_knows_are_those_of_contract_3_2() -> None:
    assert {f.name: len(f.examples) for f in MODELS[WANX].functions if f.examples} == {
        "stylization_all": 2,
        "stylization_local": 8,
    }


def test_a_function_is_found_by_its_exact_name_only() -> None:
    found = MODELS[WANX].function("remove_watermark")
    assert found is not None
    assert found.name == "remove_watermark"
    assert MODELS[WANX].function("remove_watermaker") is None  # the SDK's typo, contract 3.2
    assert MODELS[WANX].function(None) is None
    assert MODELS[QWEN].function("remove_watermark") is None


@pytest.mark.parametrize(
    ("name", "first", "interval"),
    [  # contract 2.7: first after 2–3 s for wanx2.1, 5 s for wan2.7, 10 s for wan2.5 and wan2.6;
        # then backing off to 15 s
        (WANX, (2, 3), (1, 15)),
        (WAN_25, (10, 10), (10, 15)),
        (WAN_26, (10, 10), (10, 15)),
        (WAN, (5, 5), (5, 15)),
        (WAN_PRO, (5, 5), (5, 15)),
    ],
)
def test_asynchronous_models_are_asked_when_contract_2_7_says(
    name: str, first: tuple[int, int], interval: tuple[int, int]
) -> None:
    polling = MODELS[name].polling
    assert polling is not None
    assert first[0] <= polling.first <= first[1]
    assert interval[0] <= polling.interval <= interval[1]


def test_exactly_the_models_with_tasks_are_polled() -> None:
    for model in MODELS.values():
        assert (model.polling is not None) is (Mode.ASYNC in model.calls)
        assert (model.quota.running is not None) is (Mode.ASYNC in model.calls)
    assert QUERIES_PER_SECOND <= 15  # contract 2.7: below the provider's 20


@pytest.mark.parametrize(
    ("name", "of"),
    [
        (QWEN_OCTOBER, QWEN),
        (QWEN_DECEMBER, QWEN),
        (QWEN_JANUARY, QWEN_MAX),
        (WANX, None),
        (QWEN_BASE, None),
        (QWEN, None),
        (QWEN_MAX, None),
        (WAN_25, None),
        (WAN_26, None),
        (WAN, None),
        (WAN_PRO, None),
    ],
)
def test_snapshots_have_the_rules_of_their_model(name: str, of: str | None) -> None:
    model = MODELS[name]
    assert model.snapshot_of == of
    if of is not None:
        assert model == snapshot(MODELS[of], name)
        assert of in model.says
        # What is said of the name without a date does not hold for the snapshot.
        assert model.notes == ()


def test_a_model_without_a_date_says_which_snapshot_it_is_today() -> None:
    notes = {name: model.notes for name, model in MODELS.items() if model.notes}
    assert set(notes) == {QWEN, QWEN_MAX}
    assert QWEN_OCTOBER in notes[QWEN][0]
    assert QWEN_JANUARY in notes[QWEN_MAX][0]


def test_how_long_a_task_takes_is_said_where_it_is_documented() -> None:
    assert {name for name, model in MODELS.items() if model.takes != "not documented"} == {
        WANX, WAN_25, WAN_26, WAN, WAN_PRO,
    }  # fmt: skip


# --- what is sent though the sidecar is silent -----------------------------------------------------


@pytest.mark.parametrize("name", ELEVEN)
def test_n_is_always_completed_and_is_1(name: str) -> None:  # contract 8, 1 and 2
    model = MODELS[name]
    functions: list[str | None] = [None, *(f.name for f in model.functions)]
    for function in functions:
        for has_images in (False, True):
            assert model.completed({}, has_images, function) == {"n": 1}


@pytest.mark.parametrize(
    ("name", "given_", "completed"),
    [
        (WAN_26, {"enable_interleave": True}, {"n": 1, "max_images": 5}),
        (WAN_26, {"enable_interleave": True, "max_images": 2}, {"n": 1, "max_images": 2}),
        (WAN_26, {"enable_interleave": False}, {"n": 1}),
        (WAN_26, {"enable_interleave": "true"}, {"n": 1}),
        (WAN_26, {"max_images": 2}, {"n": 1, "max_images": 2}),
        (WAN_26, {"n": 3, "size": "2K"}, {"n": 3, "size": "2K"}),
        (WAN, {"enable_sequential": True}, {"n": 1}),
        (WAN, {"enable_sequential": True, "n": 12}, {"n": 12}),
        (QWEN_BASE, {"seed": 7}, {"n": 1, "seed": 7}),
        (WANX, {"n": 4}, {"n": 4}),
    ],
)
def test_what_is_given_is_kept_and_only_bills_are_completed(
    name: str, given_: dict[str, Json], completed: dict[str, Json]
) -> None:
    before = dict(given_)
    assert MODELS[name].completed(given_, True) == {**given_, **completed}
    assert given_ == before


@pytest.mark.parametrize(
    ("name", "parameters", "has_images", "most"),
    [
        (WANX, {}, True, 1),
        (WANX, {"n": 4}, True, 4),
        (QWEN_BASE, {}, True, 1),
        (QWEN, {"n": 6}, True, 6),
        (WAN_25, {"n": 3}, True, 3),
        (WAN_26, {"n": 3}, True, 3),
        (WAN_26, {"n": 3, "max_images": 5}, True, 3),  # has no effect there
        (WAN_26, {"enable_interleave": True}, True, 5),
        (WAN_26, {"enable_interleave": True}, False, 5),
        (WAN_26, {"enable_interleave": True, "max_images": 2}, True, 2),
        (WAN_26, {"enable_interleave": True, "n": 1, "max_images": 4}, False, 4),
        (WAN, {}, False, 1),
        (WAN, {"n": 4}, True, 4),
        (WAN, {"enable_sequential": True}, True, 1),
        (WAN_PRO, {"enable_sequential": True, "n": 12}, False, 12),
    ],
)
def test_how_many_images_a_job_makes_and_bills_at_the_most(
    name: str, parameters: dict[str, Json], has_images: bool, most: int
) -> None:
    model = MODELS[name]
    completed = model.completed(parameters, has_images)
    assert model.most_images(completed, has_images) == most


@pytest.mark.parametrize("name", ELEVEN)
@pytest.mark.parametrize("interleave", [False, True])
@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("has_images", [False, True])
def test_in_every_mode_one_parameter_says_how_many_images_there_are(
    name: str, interleave: bool, sequential: bool, has_images: bool
) -> None:
    switches: dict[str, Json] = {"enable_interleave": interleave, "enable_sequential": sequential}
    counting = [
        p.name
        for p in MODELS[name].parameters
        if p.counts is not None and p.counts.holds(switches, has_images)
    ]
    assert counting == ["max_images" if name == WAN_26 and interleave else "n"]


@pytest.mark.parametrize("value", [True, "3", 2.0, None])
def test_a_count_that_is_no_whole_number_counts_as_one(value: Json) -> None:
    assert MODELS[QWEN].most_images({"n": value}, True) == 1


def test_a_set_is_of_little_use_without_n() -> None:
    wanting = {
        (name, p.name, p.wants) for name, m in MODELS.items() for p in m.parameters if p.wants
    }
    assert wanting == {(name, "enable_sequential", "n") for name in (WAN, WAN_PRO)}


@pytest.mark.parametrize("name", ELEVEN)
def test_what_is_recommended_is_accepted(name: str) -> None:
    examples = [(p, value) for p in MODELS[name].parameters for value in p.examples]
    assert [(p.name, value) for p, value in examples if p.kind.check(value) is not None] == []
    assert bool(examples) is (name not in (WANX, QWEN_BASE, WAN, WAN_PRO))


def test_defaults_are_those_of_the_contract() -> None:
    def defaults(name: str) -> dict[str, Json]:
        return {p.name: p.default for p in MODELS[name].parameters if p.default is not None}

    scales: dict[str, Json] = {f"{side}_scale": 1.0 for side in ("top", "bottom", "left", "right")}
    assert defaults(WANX) == {
        "n": 1, "watermark": False, "strength": 0.5, "upscale_factor": 1, "is_sketch": False, **scales,
    }  # fmt: skip
    assert defaults(QWEN_BASE) == {"n": 1, "watermark": False}
    assert defaults(QWEN) == {"n": 1, "watermark": False, "prompt_extend": True}
    assert defaults(WAN_25) == {"n": 4, "watermark": False, "prompt_extend": True}
    assert defaults(WAN_26) == {
        "n": 4, "watermark": False, "prompt_extend": True, "enable_interleave": False,
        "max_images": 5, "size": "1K",
    }  # fmt: skip
    assert defaults(WAN) == defaults(WAN_PRO)
    assert defaults(WAN) == {
        "n": 1, "watermark": False, "enable_sequential": False, "thinking_mode": True, "size": "2K",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters", "has_images", "low", "high"),
    [
        (WANX, {}, True, 1, 4),
        (QWEN_BASE, {}, True, 1, 1),
        (QWEN, {}, True, 1, 6),
        (QWEN_MAX, {}, True, 1, 6),
        (WAN_25, {}, True, 1, 4),
        (WAN_26, {}, True, 1, 4),
        (WAN_26, {"enable_interleave": True}, True, 1, 1),
        (WAN_26, {"enable_interleave": True}, False, 1, 1),
        (WAN, {}, False, 1, 4),
        (WAN, {"enable_sequential": True}, True, 1, 12),
        (WAN_PRO, {"enable_sequential": True}, False, 1, 12),
        (WAN_PRO, {"enable_sequential": False}, True, 1, 4),
    ],
)
def test_how_many_results_may_be_asked_for(
    name: str, parameters: dict[str, Json], has_images: bool, low: int, high: int
) -> None:
    assert MODELS[name].by_name["n"].kind_for(parameters, has_images) == Integer(low, high)


@pytest.mark.parametrize(
    ("name", "parameter", "variant"),
    [
        (WAN_26, "n", 1),
        (WAN_26, "size", None),  # none is documented, but for what becomes of the input's own size
        (WAN, "n", 12),
        (WAN_PRO, "n", 12),
        (WAN_PRO, "size", "2K"),
    ],
)
def test_a_mode_has_its_own_default(name: str, parameter: str, variant: Json) -> None:
    assert [v.default for v in MODELS[name].by_name[parameter].variants] == [variant]


def test_a_default_is_within_its_own_range() -> None:
    for model in MODELS.values():
        for p in model.parameters:
            pairs = [(p.kind, p.default), *((v.kind, v.default) for v in p.variants)]
            for kind, default in pairs:
                assert default is None or kind.check(default) is None, f"{model.name} {p.name}"


UP_TO_2K = Size(tiers=TIERS_27, area=(768**2, 2048**2), ratio=8.0)
UP_TO_4K = Size(tiers={**TIERS_27, "4K": 4096}, area=(768**2, 4096**2), ratio=8.0)
INTERLEAVED = Size(known=TIERS_26, area=(768**2, 1280**2), ratio=4.0)


@pytest.mark.parametrize(
    ("name", "parameters", "has_images", "size"),
    [
        (QWEN, {}, True, Size(sides=(512, 2048))),
        (QWEN_JANUARY, {}, True, Size(sides=(512, 2048))),
        (WAN_25, {}, True, Size(area=(768**2, 1280**2), ratio=4.0)),
        (WAN_26, {}, True, Size(tiers=TIERS_26, area=(768**2, 2048**2), ratio=4.0)),
        (WAN_26, {"enable_interleave": True}, True, INTERLEAVED),
        (WAN_26, {"enable_interleave": True}, False, INTERLEAVED),
        (WAN, {}, True, UP_TO_2K),
        (WAN, {}, False, UP_TO_2K),
        (WAN_PRO, {}, True, UP_TO_2K),
        (WAN_PRO, {}, False, UP_TO_4K),
        (WAN_PRO, {"enable_sequential": False}, False, UP_TO_4K),
        (WAN_PRO, {"enable_sequential": True}, False, UP_TO_2K),
        (WAN_PRO, {"enable_sequential": True}, True, UP_TO_2K),
    ],
)
def test_sizes_are_those_of_the_contract_in_each_mode(
    name: str, parameters: dict[str, Json], has_images: bool, size: Size
) -> None:
    assert MODELS[name].by_name["size"].kind_for(parameters, has_images) == size


def test_where_a_parameter_is_refused_or_without_effect_is_the_contracts() -> None:
    refused = {
        (name, p.name, str(p.only))
        for name, model in MODELS.items()
        for p in model.parameters
        if p.only is not None
    }
    assert refused == {
        (name, parameter, when)
        for name in (WAN, WAN_PRO)
        for parameter, when in (
            ("color_palette", "enable_sequential is false"),
            ("bbox_list", "there are images"),
        )
    }
    idle = {
        (name, p.name, str(p.effective))
        for name, model in MODELS.items()
        for p in model.parameters
        if p.effective is not None
    }
    assert idle == {
        (WAN_26, "max_images", "enable_interleave is true"),
        (WAN_26, "prompt_extend", "enable_interleave is false"),
        (WAN, "thinking_mode", "enable_sequential is false and there is no image"),
        (WAN_PRO, "thinking_mode", "enable_sequential is false and there is no image"),
    }


@pytest.mark.parametrize(
    ("name", "parameter", "value", "places"),
    [
        (WAN_26, "n", 1, ["enable_interleave is true", "enable_interleave is false"]),
        (WAN_26, "n", 4, ["enable_interleave is false"]),
        (WAN_26, "n", 5, []),
        (WAN_26, "size", "1K", ["enable_interleave is false"]),
        (WAN, "n", 5, ["enable_sequential is true"]),
        (WAN, "n", 13, []),
        (WAN, "size", "4K", []),
        # In words the other half of two conditions cannot be said, so only the variant's is.
        (WAN_PRO, "size", "4K", ["enable_sequential is false and there is no image"]),
        (WAN_PRO, "size", "1K", ["enable_sequential is false and there is no image"]),
        (QWEN, "n", 1, []),
    ],
)
def test_where_a_value_is_allowed_is_told(
    name: str, parameter: str, value: Json, places: list[str]
) -> None:
    assert [str(w) for w in MODELS[name].by_name[parameter].places_for(value)] == places


def test_every_contradiction_of_contract_8_has_a_reading() -> None:
    rows = {r.row for r in READINGS} | {r.row for m in MODELS.values() for r in m.readings}
    assert rows == set(range(1, 43))


def test_what_holds_for_all_models_is_read_once() -> None:
    general = [reading.row for reading in READINGS]
    assert general == sorted(set(general))
    assert all(reading.says for reading in READINGS)
    assert not set(general) & {r.row for m in MODELS.values() for r in m.readings}


@pytest.mark.parametrize("name", ELEVEN)
def test_where_the_sources_contradict_each_other_the_reading_is_named(name: str) -> None:
    readings = MODELS[name].readings
    assert readings
    assert all(1 <= reading.row <= 42 and reading.says for reading in readings)
    assert len({reading.row for reading in readings}) == len(readings)
    assert any("too long" in reading.says for reading in readings if reading.row == 23)


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

ON = {"enable_sequential": True}
OFF = {"enable_sequential": False}


@pytest.mark.parametrize(
    ("when", "parameters", "has_images", "holds"),
    [
        pytest.param(When(), OFF, False, True, id="no condition holds always"),
        pytest.param(When(), ON, True, True, id="no condition holds always, too"),
        pytest.param(When("enable_sequential"), ON, False, True, id="on"),
        pytest.param(When("enable_sequential"), OFF, False, False, id="off"),
        pytest.param(When("enable_interleave"), ON, False, False, id="another is on"),
        pytest.param(When(images=False), OFF, True, False, id="there are images"),
        pytest.param(When(images=False), OFF, False, True, id="there are none"),
        pytest.param(When(images=True), ON, True, True, id="there should be images"),
        pytest.param(When("enable_sequential", False, False), OFF, False, True, id="both hold"),
        pytest.param(When("enable_sequential", False, False), OFF, True, False, id="one fails"),
        pytest.param(When("enable_sequential", False, False), ON, False, False, id="the other"),
    ],
)
def test_a_condition_holds_where_all_its_parts_do(
    when: When, parameters: dict[str, Json], has_images: bool, holds: bool
) -> None:
    assert when.holds(parameters, has_images) is holds


def test_a_switch_is_off_unless_it_is_true() -> None:
    values: list[Json] = ["true", 1, None, [True], False]
    for value in values:
        assert When("enable_interleave", on=False).holds({"enable_interleave": value}, False)
        assert not When("enable_interleave").holds({"enable_interleave": value}, False)
    assert When("enable_interleave", on=False).holds({}, False)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (When(), "always"),
        (When("enable_interleave"), "enable_interleave is true"),
        (When("enable_interleave", on=False), "enable_interleave is false"),
        (When(images=True), "there are images"),
        (When("x", on=False, images=False), "x is false and there is no image"),
    ],
)
def test_a_condition_can_be_said(when: When, words: str) -> None:
    assert str(when) == words


@pytest.mark.parametrize("name", ELEVEN)
def test_the_number_of_images_is_exact_but_for_sets_and_text_with_images(name: str) -> None:
    exact = MODELS[name].exact_count
    assert exact.holds({}, True)
    assert exact.holds({"enable_sequential": False, "enable_interleave": False}, False)
    assert exact.holds({"enable_sequential": True}, True) is (name not in (WAN, WAN_PRO))
    assert exact.holds({"enable_interleave": True}, True) is (name != WAN_26)


def test_only_text_with_images_is_streamed() -> None:
    assert {name: m.streams for name, m in MODELS.items() if m.streams is not None} == {
        WAN_26: When("enable_interleave")
    }


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
        pytest.param(WAN_SIZE, "4K", "2K", id="a tier of another model"),
        pytest.param(WAN_SIZE, "5000*500", "4000*500", id="too wide"),
        pytest.param(WAN_SIZE, "500*5000", "500*4000", id="too tall"),
        pytest.param(WAN_SIZE, "1024,768", "1024*768", id="a comma"),
        pytest.param(PLUS_SIZE, "1K", "1024*1024", id="a tier where there are none"),
        pytest.param(PLUS_SIZE, "2K", "2048*2048", id="the largest where there are no tiers"),
        pytest.param(PLUS_SIZE, "4K", None, id="a tier beyond all sides"),
        pytest.param(INTERLEAVED, "1K", "1280*1280", id="a tier that is known by its model"),
        pytest.param(INTERLEAVED, "1k", "1280*1280", id="one in small letters"),
        pytest.param(INTERLEAVED, "2K", None, id="one that is known and too large"),
        pytest.param(UP_TO_4K, "8K", "4K", id="a tier beyond the largest"),
        pytest.param(WAN_25_SIZE, "2K", None, id="a tier beyond the area"),
        pytest.param(WAN_25_SIZE, "1K", "1024*1024", id="a tier within the area"),
        pytest.param(WAN_25_SIZE, "1601*400", "1600*400", id="just too wide"),
        pytest.param(WAN_25_SIZE, "2048*2048", "1280*1280", id="a square too large"),
        pytest.param(WAN_25_SIZE, "2048*1024", "1810*905", id="no square too large"),
        pytest.param(WAN_25_SIZE, "800*600", "887*666", id="too small"),
        pytest.param(WAN_25_SIZE, "big", None, id="what is no size"),
    ],
)
def test_the_nearest_size_is_said(kind: Size, value: str, nearest: str | None) -> None:
    fault = kind.check(value)
    assert fault is not None
    assert fault.nearest == nearest


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from([PLUS_SIZE, WAN_25_SIZE, WAN_SIZE]),
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
    for kind in (PLUS_SIZE, WAN_25_SIZE, WAN_SIZE):
        assert kind.check(value) is not None


@pytest.mark.parametrize("name", ELEVEN)
def test_a_tier_is_the_side_of_a_square_that_is_itself_allowed(name: str) -> None:
    size = MODELS[name].by_name.get("size")
    kinds = [] if size is None else [size.kind, *(variant.kind for variant in size.variants)]
    assert bool(kinds) is (name not in (WANX, QWEN_BASE))
    for kind in kinds:
        assert isinstance(kind, Size)
        for tier, side in kind.tiers.items():
            assert kind.check(tier) is None
            assert kind.check(f"{side}*{side}") is None


@pytest.mark.parametrize(
    ("value", "nearest"),
    [
        (4.0, 4),
        (0.0, 1),
        (1e300, 4),
        ("3", 3),
        ("03", 3),
        ("99", 4),
        ("0", 1),
        ("1" * 10, 4),
        ("1" * 11, None),
        ("1.0", None),
        ("-1", None),
        (" 1", None),
        ("１", None),
        ("four", None),
        ("", None),
        (1.5, None),
        (float("inf"), None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_what_is_meant_by_what_is_no_whole_number(value: Json, nearest: Json) -> None:
    assert Integer(1, 4).check(value) == Fault("a whole number within 1–4", nearest)


@pytest.mark.parametrize(
    ("value", "nearest"),
    [
        ("true", True),
        ("True", True),
        ("YES", True),
        ("yes", True),
        ("false", False),
        ("FALSE", False),
        ("no", False),
        ("on", None),
        ("", None),
        (1, None),
        (0, None),
        (None, None),
        ([], None),
    ],
)
def test_what_is_meant_by_what_is_no_flag(value: Json, nearest: Json) -> None:
    fault = Flag().check(value)
    assert fault == Fault("true or false", nearest)
    assert fault is not None
    assert fault.nearest is nearest


A_BOX = "a box [x1, y1, x2, y2] of whole pixels with x1 < x2 and y1 < y2"
TWO_BOXES = "a list of at most 2 boxes [x1, y1, x2, y2]"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param([[], [[0, 0, 1, 1]]], [], id="nothing"),
        pytest.param(
            [[[9, 9, 0, 0]]], [Fault(A_BOX, [0, 0, 9, 9], "[0][0]", [9, 9, 0, 0])], id="turned"
        ),
        pytest.param(
            [[[9, 0, 5, 3]]], [Fault(A_BOX, [5, 0, 9, 3], "[0][0]", [9, 0, 5, 3])], id="half turned"
        ),
        pytest.param([[[5, 9, 5, 0]]], [Fault(A_BOX, None, "[0][0]", [5, 9, 5, 0])], id="no width"),
        pytest.param(
            [[[-9, 0, -12, 5]]], [Fault(A_BOX, None, "[0][0]", [-9, 0, -12, 5])], id="below"
        ),
        pytest.param(
            [[[0, 0, 100_001, 5]]], [Fault(A_BOX, None, "[0][0]", [0, 0, 100_001, 5])], id="beyond"
        ),
        pytest.param(
            [
                [[0, 0, 1, 1], [0, 0, 1]],
                None,
                [],
                [[0, 0, 1, 1.0], "x"],
                [[0, 0, 1, 1]] * 3,
            ],
            [
                Fault(A_BOX, None, "[0][1]", [0, 0, 1]),
                Fault(TWO_BOXES, None, "[1]", None),
                Fault(A_BOX, None, "[3][0]", [0, 0, 1, 1.0]),
                Fault(A_BOX, None, "[3][1]", "x"),
                Fault(TWO_BOXES, None, "[4]", [[0, 0, 1, 1]] * 3),
            ],
            id="every fault",
        ),
    ],
)
def test_every_fault_of_boxes_is_told_with_its_place(value: Json, found: list[Fault]) -> None:
    assert faults(Boxes(), value) == found
    assert Boxes().check(value) == (found[0] if found else None)


A_COLOUR = 'a colour "#RRGGBB"'
A_SHARE = 'a share with two decimals and a percent sign, as "25.00%"'
AN_OBJECT = 'an object {"hex": "#RRGGBB", "ratio": "25.00%"} and nothing else'


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(palette("40.00%", "35.50%", "24.50%"), [], id="nothing"),
        pytest.param(
            [
                {"hex": "AABBCC", "ratio": "40%"},
                {"hex": "red", "ratio": "25.00%"},
                {"hex": "#112233", "ratio": 35},
                "#445566",
            ],
            [
                Fault(A_COLOUR, "#AABBCC", "[0].hex", "AABBCC"),
                Fault(A_SHARE, "40.00%", "[0].ratio", "40%"),
                Fault(A_COLOUR, None, "[1].hex", "red"),
                Fault(A_SHARE, "35.00%", "[2].ratio", 35),
                Fault(AN_OBJECT, None, "[3]", "#445566"),
            ],
            id="every fault",
        ),
        pytest.param(
            palette("33.33%", "33.33%", "33.33%"),
            [Fault("ratios that add up to 100.00%; these make 99.99%")],
            id="a sum too small",
        ),
        pytest.param(
            palette("50.00%", "50.00%", "0.01%"),
            [Fault("ratios that add up to 100.00%; these make 100.01%")],
            id="a sum too large",
        ),
    ],
)
def test_every_fault_of_a_palette_is_told_with_its_place(value: Json, found: list[Fault]) -> None:
    assert faults(Palette(), value) == found
    assert Palette().check(value) == (found[0] if found else None)


@pytest.mark.parametrize("colours", [0, 1, 2, 11, 200])
def test_too_few_or_too_many_colours_are_counted(colours: int) -> None:
    (fault,) = faults(Palette(), palette(*["10.00%"] * colours))
    assert fault.at == ""
    assert "3–10" in fault.allowed
    assert str(colours) in fault.allowed


@pytest.mark.parametrize(
    ("ratio", "nearest"),
    [
        (40, "40.00%"),
        (40.5, "40.50%"),
        ("40", "40.00%"),
        ("40%", "40.00%"),
        ("40.5 %", "40.50%"),
        ("40.00", "40.00%"),
        (" 40.00%", "40.00%"),
        ("40.125%", None),
        ("-40%", None),
        ("1000%", None),
        ("٤٠%", None),
        (True, None),
        (None, None),
        (float("inf"), None),
        ([40], None),
    ],
)
def test_what_is_meant_by_what_is_no_share(ratio: Json, nearest: Json) -> None:
    rest = palette("30.00%", "30.00%")
    (fault,) = faults(Palette(), [*rest, {"hex": "#112233", "ratio": ratio}])
    assert (fault.at, fault.given, fault.nearest) == ("[2].ratio", ratio, nearest)


def test_a_value_with_one_fault_or_none_has_as_many() -> None:
    assert faults(Integer(1, 4), 5) == [Fault("a whole number within 1–4", 4)]
    assert faults(Integer(1, 4), 4) == []


def test_a_snapshot_differs_from_its_model_in_name_and_words_only() -> None:
    made = snapshot(MODELS[QWEN], "qwen-image-edit-plus-2027-01-01")
    assert (
        dataclasses.replace(
            made, name=QWEN, says=MODELS[QWEN].says, notes=MODELS[QWEN].notes, snapshot_of=None
        )
        == (MODELS[QWEN])
    )


def test_boxes_and_palettes_refuse_what_is_no_list() -> None:
    values: list[Json] = [None, 1, "x", True, {}]
    for kind in (Boxes(), Palette()):
        for value in values:
            assert kind.check(value) is not None
