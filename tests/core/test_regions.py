"""One stack, several of the provider's regions: where a job goes, and that lanes stay apart."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from retouch import jobs
from retouch.jobs import Status
from retouch.settings import Endpoint, Price, Prices
from retouch.steps.poll import poll
from tests.fakes import PHOTO, QWEN, WAN, WANX, World, sidecar_json

BOTH = {
    "beijing": Endpoint("https://dashscope.aliyuncs.com/api/v1"),
    "singapore": Endpoint("https://dashscope-intl.aliyuncs.com/api/v1"),
}
SINGAPORE_FIRST = dict(reversed(BOTH.items()))
PRICES = Prices(
    {
        "beijing": {WAN: Price(Decimal("0.20"), "CNY"), QWEN: Price(Decimal("0.2"), "CNY")},
        "singapore": {WAN: Price(Decimal("0.03"), "USD"), QWEN: Price(Decimal("0.03"), "USD")},
    }
)


@pytest.mark.parametrize(
    ("providers", "model", "wish", "expected"),
    [
        pytest.param(BOTH, WAN, {}, "beijing", id="the first without a wish"),
        pytest.param(SINGAPORE_FIRST, WAN, {}, "singapore", id="the order is the operator's"),
        pytest.param(SINGAPORE_FIRST, WANX, {}, "beijing", id="the one that has the model"),
        pytest.param(BOTH, WAN, {"region": "singapore"}, "singapore", id="a wish is followed"),
    ],
)
def test_a_model_goes_to_a_region_that_has_it(
    providers: dict[str, Endpoint], model: str, wish: dict[str, Any], expected: str
) -> None:
    world = World(providers=providers)
    world.inbox.put("a.png", PHOTO)

    (job_id,) = world.drop("a.png.json", sidecar_json(model, **wish))

    job = world.store.the_job(job_id)
    assert (job.status, job.lane) == (Status.QUEUED, f"{expected}:{model}")
    assert world.outbox.record("a")["region"] == expected


def test_a_region_without_a_key_is_refused_with_those_that_have_one() -> None:
    world = World()
    world.inbox.put("a.png", PHOTO)

    (job_id,) = world.drop("a.png.json", sidecar_json(WAN, region="singapore"))

    (problem,) = world.store.the_job(job_id).problems
    assert problem.field == "region"
    assert "beijing" in problem.message


def entered(world: World, name: str, model: str, region: str, **fields: Any) -> str:
    world.inbox.put(f"{name}.png", PHOTO)
    (job_id,) = world.drop(f"{name}.png.json", sidecar_json(model, region=region, **fields))
    return job_id


def test_each_region_has_its_own_lane_provider_and_price() -> None:
    world = World(providers=BOTH, prices=PRICES)
    job_ids = {region: entered(world, region, WAN, region) for region in BOTH}
    for region, job_id in job_ids.items():
        jobs_lane = jobs.lane_id(region, WAN)
        world.dispatch_lane(jobs_lane)
        assert world.provider.calls[-1].region == region
        job = world.store.the_job(job_id)
        world.clock.advance(world.provider.seconds + 1)
        poll(world, job_id, job.fence)
        world.finalize(job_id, job.fence)

    costs = {region: world.outbox.record(region)["cost"] for region in BOTH}
    assert (costs["beijing"]["amount"], costs["beijing"]["currency"]) == ("0.20", "CNY")
    assert (costs["singapore"]["amount"], costs["singapore"]["currency"]) == ("0.03", "USD")


def test_a_full_lane_in_one_region_does_not_hold_the_other() -> None:
    world = World(providers=BOTH)
    for number in range(8):
        entered(world, f"b{number}", WAN, "beijing")
    waiting = entered(world, "s", WAN, "singapore")

    for region in BOTH:
        world.dispatch_lane(jobs.lane_id(region, WAN))

    assert len(world.store.lane(jobs.lane_id("beijing", WAN)).slots) == 6
    assert world.store.the_job(waiting).status is Status.RUNNING


def test_reconcile_looks_after_the_lanes_of_every_region() -> None:
    world = World(providers=BOTH)
    entered(world, "b", WAN, "beijing")
    entered(world, "s", WAN, "singapore")
    world.kicks.sent.clear()

    world.reconcile()

    assert sorted(world.kicks.sent) == [f"beijing:{WAN}", f"singapore:{WAN}"]


def test_a_synchronous_call_of_a_model_that_has_both_shares_the_lane() -> None:
    world = World()
    world.inbox.put("a.png", PHOTO)
    (job_id,) = world.drop("a.png.json", sidecar_json(WAN, call="sync"))
    world.dispatch(WAN)
    job = world.store.the_job(job_id)
    (execution,) = world.executions.started.values()

    assert execution.payload["mode"] == "sync"
    world.generate(job_id, job.fence)
    world.finalize(job_id, job.fence)

    record = world.outbox.record("a")
    assert record["status"] == "SUCCEEDED"
    assert record["request"]["call"] == "sync"
    assert record["request"]["path"] == "services/aigc/multimodal-generation/generation"
    assert record["lane"] == f"beijing:{WAN}"
    assert record["task_id"] is None
