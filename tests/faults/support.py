"""What several of these tests need: the real handlers over a world, and a job at each of its stages."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest

from retouch.jobs import Job, Status
from retouch.local.packaging import project_root
from retouch.steps.poll import poll
from retouch.steps.submit import submit
from tests.fakes import PHOTO, QWEN, WANX, Moment, World, sidecar_json
from tests.integration.conftest import Context as Context

Handler = Callable[[Any, Context], dict[str, Any]]

STAGES = ("dropped", "queued", "running", "finalizing", "ended")


def handler(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> Handler:
    """A function's real handler, with the world in place of AWS."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "retouch")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "retouch")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "retouch")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    path = project_root() / "functions" / name / "app.py"
    spec = importlib.util.spec_from_file_location(f"fault_app_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.runtime = world
    found: Handler = module.handler
    return found


def uploaded(key: str) -> str:
    """The body of an upload's message: S3's event, as EventBridge hands it on."""
    said = {"source": "aws.s3", "detail-type": "Object Created", "detail": {"object": {"key": key}}}
    return json.dumps(said, ensure_ascii=False)


def batch(*bodies: str) -> dict[str, Any]:
    """What SQS hands to a function."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "handle",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


class Interruption:
    """Lets something else happen just before the `number`th effect from now, counted from 1."""

    def __init__(self, world: World, number: int, action: Callable[[], object]):
        self.happened = False
        self._at = len(world.effects.log) + number
        self._action = action
        world.effects.plan = self._look

    def _look(self, at: int, _: str) -> Moment | None:
        if at == self._at and not self.happened:
            self.happened = True
            self._action()
        return None


STORED = frozenset(
    {
        "await_image",
        "commit",
        "drop_alert",
        "forget_awaiting",
        "forget_lone",
        "mark_published",
        "note_copied",
        "note_lane",
        "note_latest",
        "note_lone",
        "note_sweep",
    }
)
"""The effects that are writes to the table."""


def only_job(world: World) -> Job:
    """The one job there is."""
    (job_id,) = world.store.jobs
    return world.store.the_job(job_id)


def now(world: World, job: Job) -> Job:
    """A job as it is by now."""
    return world.store.the_job(job.job_id)


def put(world: World, name: str = "red", model: str = WANX, **fields: Any) -> None:
    """Put a photo and its sidecar into the inbox; their events are still under way.

    Its prompt is its name, so that what is billed can be told apart.
    """
    world.inbox.put(f"{name}.png", PHOTO)
    world.inbox.put(
        f"{name}.png.json", sidecar_json(model, **({"prompt": f"edit {name}"} | fields))
    )


def at_stage(world: World, stage: str, model: str = WANX) -> None:
    """Bring a job, dropped as by `put`, to one of `STAGES`, from the stage before it."""
    lane = world.lane_of(model)
    match stage:
        case "dropped":
            put(world, model=model)
        case "queued":
            submit(world, "red.png.json")
            assert only_job(world).status is Status.QUEUED
        case "running":
            world.kicks.sent.clear()
            world.dispatch_lane(lane)
            assert only_job(world).status is (Status.RUNNING if model != QWEN else Status.ADMITTED)
        case "finalizing":
            job = only_job(world)
            world.clock.advance(world.provider.seconds + 1)
            if model == QWEN:
                world.generate(job.job_id, job.fence)
            else:
                poll(world, job.job_id, job.fence)
            assert only_job(world).status is Status.FINALIZING
        case "ended":
            job = only_job(world)
            world.finalize(job.job_id, job.fence)
            assert only_job(world).status is Status.SUCCEEDED
        case _:
            raise AssertionError(stage)
