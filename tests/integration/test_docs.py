"""Every sidecar in the documentation is run: through our functions' code, against the simulator.

A sidecar is any JSON block that has a `model` and a `prompt`. Its images are made here.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retouch import examples, keys
from retouch.jobs import Job, Status
from retouch.provider.client import DashScope, connection_pool
from retouch.registry import MODELS
from retouch.settings import Delivery
from retouch.simulator import SimulatorConfig
from retouch.simulator.testing import Simulator, running_simulator
from retouch.steps.poll import poll
from retouch.steps.submit import submit
from tests.fakes import World
from tests.schemas import check_message
from tests.simulator.support import TERMINAL, eventually, photograph

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md"))
)
_BLOCK = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)


def sidecars() -> Iterator[tuple[str, dict[str, Any]]]:
    """Where it stands, and what it says."""
    for page in PAGES:
        for number, block in enumerate(_BLOCK.findall(page.read_text("utf-8")), 1):
            raw = json.loads(block)
            if isinstance(raw, dict) and "model" in raw and raw.keys() & {"prompt", "steps"}:
                yield f"{page.relative_to(ROOT)}:{number}", raw


FOUND = dict(sidecars())


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    config = SimulatorConfig(time_scale=0, limits=False, seed=1)
    with running_simulator(config) as started:
        yield started


@pytest.fixture
def world(simulator: Simulator) -> Iterator[World]:
    """Our functions' code over the real client; everything but the provider is in memory."""
    found = World(input_delivery=Delivery.PUSH)
    host = simulator.origin.removeprefix("http://")
    with connection_pool() as pool:
        client = DashScope(simulator.base_url, lambda: "sk-docs", http=pool, result_hosts=(host,))
        found.provider = lambda region: client  # type: ignore[assignment]
        yield found


def picture(name: str) -> bytes:
    """An image of the format that the name says; black and white for a mask."""
    image = photograph(640, 640)
    if ".mask." in name:
        image = Image.new("L", image.size)
        image.paste(255, (100, 100, 300, 300))
    file = io.BytesIO()
    kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]]
    image.save(file, kind)
    return file.getvalue()


def dropped(world: World, raw: dict[str, Any]) -> tuple[str, ...]:
    """The jobs of a sidecar that is dropped with its images, or of an image under a preset."""
    names = raw.get("images", ["photo.jpg"])
    for name in (*names, raw.get("mask")):
        if name is not None and not name.startswith("https://"):
            world.inbox.put(keys.resolve("photo.jpg.json", name), picture(name))
    data = json.dumps(raw).encode("utf-8")
    if "locked" not in raw:
        return world.drop("photo.jpg.json", data)
    world.drop("_preset.json", data)
    return submit(world, "photo.jpg", settled=True)


def run(world: World, simulator: Simulator, job_id: str) -> Job:
    """The job once it has ended."""
    job = world.store.the_job(job_id)
    assert job.lane is not None, job.problems
    world.dispatch_lane(job.lane)
    job = world.store.the_job(job.job_id)
    if job.status is Status.ADMITTED:
        world.generate(job.job_id, job.fence)
    else:
        assert job.status is Status.RUNNING, job
        (task,) = [task for task in simulator.tasks if task.id == job.task_id]
        eventually(lambda: task.status in TERMINAL)
        poll(world, job.job_id, job.fence)
    world.finalize(job.job_id, job.fence)
    world.deliver()
    return world.store.the_job(job.job_id)


@pytest.mark.parametrize("place", FOUND)
def test_a_sidecar_in_the_documentation_works(
    world: World, simulator: Simulator, place: str
) -> None:
    raw = FOUND[place]

    ids = dropped(world, raw)

    assert len(ids) == len(raw.get("variants") or raw.get("steps") or [raw])
    for job_id in ids:
        job = run(world, simulator, job_id)
        assert job.status is Status.SUCCEEDED, (job.failure, job.image_failures, job.problems)
        assert job.warnings == ()
        wanted = job.parameters["max_images" if "max_images" in job.parameters else "n"]
        assert len(job.outputs) == wanted
        assert job.cost is not None
        assert job.cost.images == wanted
        assert (job.text is not None) == (job.parameters.get("enable_interleave") is True)


@pytest.mark.parametrize("number", [0, 1])
def test_a_message_in_the_documentation_keeps_to_its_schema(number: int) -> None:
    page = ROOT / "docs" / "reference" / "notifications.md"
    blocks = [json.loads(block) for block in _BLOCK.findall(page.read_text("utf-8"))]
    told = [block for block in blocks if "format" in block]
    assert len(told) == 2

    check_message(told[number])


@pytest.mark.parametrize("model", MODELS)
def test_the_page_of_a_model_shows_all_of_its_examples(model: str) -> None:
    page = f"docs/reference/models/{model}.md:"
    shown = [json.dumps(raw) for place, raw in FOUND.items() if place.startswith(page)]

    assert sorted(shown) == sorted(
        json.dumps(example.sidecar) for example in examples.load() if example.model == model
    )
    assert shown


def test_the_pages_and_the_schemas_are_those_that_the_code_makes() -> None:
    from tools import reference

    made = reference.files()
    for path, text in made.items():
        assert (ROOT / path).read_text("utf-8") == text, f"{path}: run `make docs`"
    assert {path.relative_to(ROOT) for path in reference.there()} <= made.keys()
    pages = {path.name for path in (ROOT / reference.MODELS_FOLDER).glob("*.md")}
    assert pages == {f"{name}.md" for name in (*MODELS, "README")}
