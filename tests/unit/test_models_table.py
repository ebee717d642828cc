"""Every model at both ends of each rule and outside: the check against three witnesses.

The cases are made from the registry (`table.py`); the rows of `expectations.py` are written by hand
from the provider's contract; the simulator reads requests by rules written apart from both.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import pytest

from retouch.provider.requests import Request, build
from retouch.registry import MODELS, REGIONS, Body, Json, Mode
from retouch.sidecar import Order, unusable_name
from retouch.simulator.checks import Order as SimulatedOrder
from retouch.simulator.checks import read_order
from retouch.simulator.errors import ProviderError
from retouch.simulator.rules import MODELS as SIMULATED
from retouch.simulator.rules import REGIONS as SIMULATED_REGIONS

from .expectations import EXPECTATIONS, Expectation, sidecar_of
from .helpers import WANX
from .table import ADVICE, Verdict, cases, judged, key_of

OURS: Final = ("call", "region")
"""Fields that the provider never sees: they decide where a request goes, and how."""


@cache
def sidecars() -> tuple[tuple[dict[str, Json], Verdict], ...]:
    """All of the generated ones and all by hand, each with the check's verdict."""
    made = [dict(case.sidecar) for of_model in cases().values() for case in of_model]
    by_hand = [sidecar_of(expectation) for expectation in EXPECTATIONS]
    return tuple((raw, judged(raw)) for raw in (*made, *by_hand))


def name_of(number: int, expectation: Expectation) -> str:
    """A test's name for a row."""
    said = json.dumps({**expectation.parameters, **expectation.top}, ensure_ascii=True)[:50]
    return f"{number} {expectation.contract} {expectation.model} {said}"


# --- the generated cases ---------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(MODELS))
def test_every_generated_case_of_a_model_is_judged_as_it_should_be(model: str) -> None:
    wrong = []
    for case in cases()[model]:
        found = judged(case.sidecar)
        if (found.fields, found.warned_by_contract) != (case.refused, case.warned):
            wrong.append(f"{case}: found {dict(found.refused)}, warned {sorted(found.warned)}")
    assert wrong == []
    print(f"{model}: {len(cases()[model])} cases")


def test_the_number_of_cases(record_property: Callable[[str, object], None]) -> None:
    made = {model: len(found) for model, found in cases().items()}
    for model, count in made.items():
        record_property(model, count)
    assert set(made) == set(MODELS)
    assert min(made.values()) >= 80
    assert sum(made.values()) >= 400


@pytest.mark.parametrize("model", list(MODELS))
def test_each_parameter_of_a_model_is_both_taken_and_refused_somewhere(model: str) -> None:
    taken: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for case in cases()[model]:
        parameters = case.sidecar["parameters"]
        assert isinstance(parameters, dict)
        (refused if case.refused else taken).update(list(parameters))
    for parameter in MODELS[model].parameters:
        assert taken[parameter.name] >= 1
        assert refused[parameter.name] >= 2
    # And what any other model has, this one refuses if it lacks it.
    elsewhere = {name for other in MODELS.values() for name in other.by_name}
    assert elsewhere <= set(refused) | set(taken)
    assert set(taken) == set(MODELS[model].by_name)


def mended(raw: Mapping[str, Json], path: str, value: Json) -> dict[str, Json]:
    """The sidecar with another value at a path: `parameters.color_palette[1].ratio`."""
    found: Any = copy.deepcopy(dict(raw))
    steps = [int(step) if step.isdecimal() else step for step in re.findall(r"[^.\[\]]+", path)]
    inner = found
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = value
    assert isinstance(found, dict)
    return found


def test_what_is_said_to_be_the_nearest_value_is_accepted() -> None:
    followed: Counter[bool] = Counter()
    for raw, found in sidecars():
        for path, value in found.nearest.items():
            left = set(judged(mended(raw, path, value)).refused)
            assert left == set(found.refused) - {path}, key_of(raw)
            followed["[" in path] += 1
    assert followed[False] >= 100
    assert followed[True] >= 5


def test_where_a_value_is_said_to_be_allowed_it_is() -> None:
    """Each condition and each model that a refusal names is tried."""
    met: set[str] = set()
    for raw, found in sidecars():
        for path, message in found.refused.items():
            said = re.search(r"; allowed (?:with )?((?:where|qwen|wan).+)$", message)
            for place in said[1].split(" or ") if said else ():
                moved = dict(raw)
                if model := re.match(r"(?:qwen|wan)\S+", place):
                    moved["model"] = model[0]
                if "there is no image" in place:
                    moved["images"] = []
                if switch := re.search(r"(enable_\w+) is (true|false)", place):
                    moved = mended(moved, f"parameters.{switch[1]}", switch[2] == "true")
                assert path not in judged(moved).refused, f"{key_of(raw)}: {message}"
                met.add(f"{path.removeprefix('parameters.')}: {place}")
    assert met >= {
        "size: where enable_interleave is false",
        "size: where enable_sequential is false and there is no image",
        "size: wan2.7-image-pro where enable_sequential is false and there is no image",
        "n: where enable_interleave is false",
        "n: where enable_sequential is true",
    }


def test_a_set_without_n_is_warned_of_everywhere_and_nothing_else_is() -> None:
    warned = 0
    for raw, found in sidecars():
        if found.order is None:
            continue
        parameters = raw["parameters"]
        assert isinstance(parameters, dict)
        bare = parameters.get("enable_sequential") is True and "n" not in parameters
        assert (ADVICE in found.warned) is bare, key_of(raw)
        warned += bare
    assert warned >= 10


# --- the expectations by hand ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "expectation", [pytest.param(e, id=name_of(i, e)) for i, e in enumerate(EXPECTATIONS)]
)
def test_the_check_meets_each_expectation_by_hand(expectation: Expectation) -> None:
    found = judged(sidecar_of(expectation))
    assert found.fields == expectation.refused, dict(found.refused)
    if expectation.refused:
        assert expectation.warned == frozenset()
    else:
        # But for the advice to give n beside enable_sequential, which is ours.
        assert found.warned - {ADVICE} == expectation.warned
    if expectation.nearest is not None:
        assert list(found.nearest.values()) == [json.loads(expectation.nearest)]


def test_there_are_enough_expectations_and_some_for_every_model() -> None:
    of_model = Counter(e.model for e in EXPECTATIONS)
    assert sum(of_model.values()) >= 120
    assert min(of_model[model] for model in MODELS) >= 8
    assert len({key_of(sidecar_of(e)) for e in EXPECTATIONS}) >= 120
    assert sum(1 for e in EXPECTATIONS if e.refused) >= 60
    assert sum(1 for e in EXPECTATIONS if not e.refused) >= 60


def test_generated_cases_and_expectations_of_the_same_sidecar_agree() -> None:
    by_hand = {key_of(sidecar_of(e)): e for e in EXPECTATIONS}
    met: Counter[str] = Counter()
    for model, found in cases().items():
        for case in found:
            expectation = by_hand.get(key_of(case.sidecar))
            if expectation is not None:
                assert case.refused == expectation.refused, str(case)
                assert case.warned == expectation.warned, str(case)
                met[model] += 1
    print(f"{sum(met.values())} sidecars stand in both: {dict(met)}")
    assert sum(met.values()) >= 120
    assert set(met) == set(MODELS)


# --- the simulator: the same rules, read from the contract by others --------------------------------


def url_of(name: Json) -> Json:
    """Where the provider would fetch an image; nothing is fetched here."""
    return f"https://img.example.com/{name}" if isinstance(name, str) else name


def requests_of(order: Order) -> Iterator[tuple[Mode, Request]]:
    """What retouch would send for an order, each way that its model can be called."""
    model = MODELS[order.model]
    for call in model.calls:
        yield (
            call,
            build(
                model,
                call,
                function=order.function,
                prompt=order.prompt,
                negative_prompt=order.negative_prompt,
                images=[f"https://img.example.com/{name}" for name in order.images or ()],
                mask=None if order.mask is None else f"https://img.example.com/{order.mask}",
                parameters=order.parameters,
            ),
        )


def sent_unchecked(raw: Mapping[str, Json]) -> dict[str, Any]:
    """The body that somebody would send who checks nothing: each field where it belongs, as it is.

    What the body has no place for goes to the place of the model that has it.
    """
    model = MODELS[str(raw["model"])]
    images, parameters = raw["images"], raw["parameters"]
    assert isinstance(images, list)
    assert isinstance(parameters, dict)
    urls = [url_of(name) for name in images]
    given: dict[str, Json] = dict(parameters)
    content: dict[str, Json] = {}
    prompt: dict[str, Json] = {"prompt": raw["prompt"]} if raw.get("prompt") is not None else {}
    match model.body:
        case Body.FLAT_2_1:
            content = {**prompt}
            if urls:
                content["base_image_url"] = urls[0] if len(urls) == 1 else urls
        case Body.FLAT_2_5:
            content = {**prompt, "images": urls}
        case Body.MESSAGES:
            items: list[Json] = [{"image": url} for url in urls]
            items += [{"text": text} for text in prompt.values()]
            content = {"messages": [{"role": "user", "content": items}]}
    if raw.get("function") is not None:
        content["function"] = raw["function"]
    if raw.get("mask") is not None:
        content["mask_image_url"] = url_of(raw["mask"])
    if raw.get("negative_prompt") is not None:
        place = content if model.body is Body.FLAT_2_5 else given
        place["negative_prompt"] = raw["negative_prompt"]
    return {"model": model.name, "input": content, "parameters": given}


def simulated(body: Mapping[str, Any]) -> SimulatedOrder | ProviderError:
    """What the simulator makes of a body."""
    name = str(body["model"])
    try:
        return read_order(name, SIMULATED[name], body)
    except ProviderError as refusal:
        return refusal


def test_the_simulator_takes_every_sidecar_that_is_accepted() -> None:
    taken = 0
    for raw, verdict in sidecars():
        order = verdict.order
        if order is None:
            continue
        name = key_of(raw)[:300]
        for call, request in requests_of(order):
            found = simulated(request.body)
            assert isinstance(found, SimulatedOrder), f"{name}, {call}: {found}"
            # What is billed is always said, never left to the provider's own default.
            sent = request.body["parameters"]
            assert isinstance(sent, dict)
            assert sent.get(found.mode.count_parameter) == found.count, name
            exact = MODELS[order.model].exact_count.holds(order.parameters, bool(order.images))
            assert not exact or found.count == order.parameters["n"], name
            assert (found.prompt, found.negative_prompt) == (order.prompt, order.negative_prompt)
            assert request.stream is (call is Mode.SYNC and found.mode.sync_needs_sse), name
            taken += 1
    print(f"{taken} requests taken by the simulator")
    assert taken >= 400


OVER_LONG: Final = "a text that is too long, which the provider would cut off silently"
BLANK: Final = "a prompt of white space"
NULL: Final = "a parameter that is null, which the provider passes over"
MOVED: Final = "a negative prompt among the parameters, where we have it at the top"
TRANSPORT: Final = "a matter of transport, which retouch sets"
NO_BOXES: Final = "boxes where there is no image: an empty list for no images"
STRICTER: Final = frozenset({OVER_LONG, BLANK, NULL, MOVED, TRANSPORT, NO_BOXES})
"""Where retouch refuses what the provider would take. Each kind is met below, and there is no other."""


def why_stricter(raw: Mapping[str, Json], path: str) -> str | None:
    """Which of those kinds the refusal of a field is, if any."""
    model = MODELS[str(raw["model"])]
    parameters = raw["parameters"]
    assert isinstance(parameters, dict)
    limit = {"prompt": model.prompt_chars, "negative_prompt": model.negative_prompt_chars}.get(path)
    if limit is not None:
        text = raw[path]
        if isinstance(text, str) and len(text) > limit:
            return OVER_LONG
        return BLANK if isinstance(text, str) and text and not text.strip() else None
    name = path.removeprefix("parameters.")
    if name not in parameters:
        return None
    if name in ("stream", "is_async"):
        return TRANSPORT
    if name == "negative_prompt" and model.negative_prompt_chars is not None:
        return MOVED
    if parameters[name] is None:
        return NULL
    return NO_BOXES if name == "bbox_list" and not raw["images"] else None


def test_the_simulator_refuses_what_is_refused_but_for_the_kinds_that_are_named() -> None:
    refused, met = 0, set()
    unexplained = []
    for raw, verdict in sidecars():
        if raw["model"] not in SIMULATED:
            assert verdict.fields == {"model"}
            continue
        paths = verdict.fields - set(OURS)
        if not paths:
            continue
        if isinstance(simulated(sent_unchecked(raw)), ProviderError):
            refused += 1
            continue
        kinds = {why_stricter(raw, path) for path in paths}
        met |= {kind for kind in kinds if kind is not None}
        if None in kinds:
            unexplained.append(f"{key_of(raw)[:300]}: refused {sorted(paths)}")
    assert unexplained == []
    assert met == STRICTER
    print(f"{refused} bodies refused by the simulator")
    assert refused >= 400


def test_the_unchecked_body_of_what_is_accepted_is_taken_too() -> None:
    """Or the test above would pass with bodies that nobody could like."""
    for raw, verdict in sidecars():
        if verdict.order is not None:
            assert isinstance(simulated(sent_unchecked(raw)), SimulatedOrder), key_of(raw)[:300]


def served(model: str, region: str | None, call: Mode | None) -> bool:
    """Whether the simulator has a model in a region and answers it so there; None is any."""
    rules = SIMULATED[model]
    ways = {
        way
        for way, path in ((Mode.SYNC, rules.sync_endpoint), (Mode.ASYNC, rules.async_endpoint))
        if path is not None
    }
    return any(
        model in place.models and (ways - {Mode.SYNC} if place.async_only else ways) & wanted
        for name, place in SIMULATED_REGIONS.items()
        if region in (None, name)
        for wanted in [set(Mode) if call is None else {call}]
    )


@pytest.mark.parametrize("model", list(MODELS))
def test_the_simulator_has_each_model_where_and_how_the_check_says(model: str) -> None:
    routes = 0
    for raw, verdict in sidecars():
        region, call = raw.get("region"), raw.get("call")
        paths = set(verdict.refused)
        if raw["model"] != model or not paths <= set(OURS):
            continue
        known = region in (None, *REGIONS) and call in (None, *Mode)
        if not known:
            assert paths
            continue
        where = None if region is None else str(region)
        how = None if call is None else Mode(str(call))
        assert served(model, where, how) is not bool(paths), key_of(raw)
        routes += 1
    assert routes >= 15


@pytest.mark.parametrize("model", list(MODELS))
def test_registry_and_simulator_agree_on_paths_limits_and_images(model: str) -> None:
    ours, theirs = MODELS[model], SIMULATED[model]
    assert set(MODELS) == set(SIMULATED)
    assert ours.calls.get(Mode.SYNC) == theirs.sync_endpoint
    assert ours.calls.get(Mode.ASYNC) == theirs.async_endpoint
    assert ours.prompt_chars == theirs.prompt_chars
    quota = ours.quota
    assert (quota.creates, quota.per_seconds) == (theirs.rate.count, theirs.rate.seconds)
    assert quota.running == theirs.concurrency
    assert set(ours.images.formats) == theirs.images.formats
    assert ours.images.max_bytes == theirs.images.max_bytes
    assert ours.images.sides == theirs.images.sides
    assert ours.images.alpha is theirs.images.png_alpha
    ratio = None if ours.images.ratio is None else (1 / ours.images.ratio, ours.images.ratio)
    assert ratio == theirs.images.ratio
    # Of URLs in ASCII the contract speaks for wanx2.1 only; retouch is stricter and wants them always.
    assert theirs.images.ascii_urls is (model == WANX)
    assert unusable_name("https://img.example.com/照片.jpg") is not None
    mimes = {f"image/{name.lower()}" for name in ours.images.data_urls}
    assert mimes == theirs.images.mimes
    assert set(REGIONS) == set(SIMULATED_REGIONS)
