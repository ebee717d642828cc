"""Drop, and look in the outbox: what the README promises, on the deployed template."""

from __future__ import annotations

import hashlib
import json
import uuid
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from tests.e2e.support import User, mask, picture, until

WANX = "wanx2.1-imageedit"
QWEN = "qwen-image-edit-plus"
WAN27 = "wan2.7-image"


def test_an_asynchronous_job_runs_from_drop_to_result(user: User) -> None:
    image = picture()
    version = user.put("main/red.jpg", image)
    user.put(
        "main/red.jpg.json",
        {
            "model": WANX,
            "function": "colorization",
            "prompt": "warm evening light",
            "parameters": {"seed": 7},
            "labels": {"sku": "A-113"},
        },
    )
    record = user.settled("main/red")
    assert record["status"] == "SUCCEEDED"
    assert record["labels"] == {"sku": "A-113"}
    assert record["seed"] == 7
    assert record["request"]["parameters"] == {"n": 1, "seed": 7}
    assert record["task_id"]
    assert record["request_ids"]["create"]
    assert record["inputs"] == [
        {
            "key": "main/red.jpg",
            "made_by": None,
            "version_id": version,
            "sha256": hashlib.sha256(image).hexdigest(),
            "size": len(image),
            "mime": "image/jpeg",
            "width": 512,
            "height": 512,
            "mended": None,
            "sent_as": "data-url",
        }
    ]
    [output] = record["outputs"]
    data = user.read("main/red/red-1.png")
    assert data is not None
    assert output["key"] == "main/red/red-1.png"
    assert output["sha256"] == hashlib.sha256(data).hexdigest()
    assert output["size"] == len(data)
    head = user.s3.head_object(Bucket=user.stack.outputs["OutboxBucket"], Key="main/red/red-1.png")
    assert output["version_id"] == head["VersionId"]
    assert head["ContentType"] == "image/png"
    assert record["cost"] == {"images": 1, "price": "0.14", "amount": "0.14", "currency": "CNY"}
    times = record["times"]
    assert times["created"] <= times["admitted"] <= times["running"] <= times["finished"]


def test_a_synchronous_job_makes_as_many_images_as_asked(user: User) -> None:
    user.put("sync/chair.png", picture(640, 480, "PNG"))
    user.put(
        "sync/chair.png.json",
        {"model": QWEN, "prompt": "a blue chair", "parameters": {"n": 2, "size": "768*512"}},
    )
    record = user.settled("sync/chair")
    assert record["status"] == "SUCCEEDED"
    assert [output["key"] for output in record["outputs"]] == [
        "sync/chair/chair-1.png",
        "sync/chair/chair-2.png",
    ]
    assert (record["outputs"][0]["width"], record["outputs"][0]["height"]) == (768, 512)
    assert record["task_id"] is None
    assert record["cost"]["images"] == 2


def test_a_messages_job_makes_three_images_that_differ(user: User) -> None:
    user.put("many/cat.jpg", picture())
    user.put(
        "many/cat.json", {"model": WAN27, "prompt": "a hat", "parameters": {"n": 3, "size": "1K"}}
    )
    record = user.settled("many/cat")
    assert record["status"] == "SUCCEEDED"
    assert len({output["sha256"] for output in record["outputs"]}) == 3


def test_a_sidecar_of_any_name_waits_for_the_images_it_names(user: User) -> None:
    user.put(
        "pair/both.json",
        {"model": WAN27, "prompt": "put one on two", "images": ["one.jpg", "/pair/deep/two.png"]},
    )
    waiting = until(lambda: user.record("pair/both"), "a record of the waiting job")
    assert waiting["status"] == "WAITING"
    assert waiting["missing"] == ["pair/one.jpg", "pair/deep/two.png"]
    user.put("pair/one.jpg", picture())
    user.put("pair/deep/two.png", picture(480, 480, "PNG"))
    record = user.settled("pair/both")
    assert record["status"] == "SUCCEEDED"
    assert [image["key"] for image in record["inputs"]] == ["pair/one.jpg", "pair/deep/two.png"]
    assert record["outputs"][0]["key"] == "pair/both/both-1.png"


def test_a_masked_edit_keeps_what_is_black(user: User) -> None:
    user.put("masked/vase.png", picture(format_="PNG"))
    user.put("masked/vase.mask.png", mask())
    user.put(
        "masked/vase.png.json",
        {
            "model": WANX,
            "function": "description_edit_with_mask",
            "prompt": "tulips",
            "mask": "vase.mask.png",
        },
    )
    record = user.settled("masked/vase")
    assert record["status"] == "SUCCEEDED"
    before = user.s3.get_object(Bucket=user.stack.outputs["InboxBucket"], Key="masked/vase.png")
    original = Image.open(BytesIO(before["Body"].read())).convert("RGB")
    edited = user.result(record).convert("RGB")
    kept = (256, 64, 512, 512)  # right half, below the stamp
    assert ImageChops.difference(original.crop(kept), edited.crop(kept)).getbbox() is None
    changed = (0, 128, 256, 512)
    assert ImageChops.difference(original.crop(changed), edited.crop(changed)).getbbox()


def test_an_outpaint_is_larger_than_its_image(user: User) -> None:
    user.put("wide/view.jpg", picture(600, 520))
    user.put(
        "wide/view.jpg.json",
        {
            "model": WANX,
            "function": "expand",
            "prompt": "more sea",
            "parameters": {"left_scale": 1.5, "right_scale": 1.5},
        },
    )
    record = user.settled("wide/view")
    assert user.result(record).size[0] > 600


def test_every_state_is_told_and_the_end_is_told_once(user: User) -> None:
    news = user.inbox_of_news()
    user.put("news/item.jpg", picture())
    user.put(
        "news/item.jpg.json",
        {
            "model": WANX,
            "function": "remove_watermark",
            "prompt": "a prompt that stays private",
            "labels": {"order": "7"},
        },
    )
    record = user.settled("news/item")

    def heard() -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
        mine = [m for m in news() if record["job_id"] in json.dumps(m)]
        events = [m for m in mine if "detail-type" in m]
        messages = [m for m in mine if m.get("Type") == "Notification"]
        ended = any(event["detail"]["status"] == "SUCCEEDED" for event in events)
        return (events, messages) if ended and messages else None

    events, messages = until(heard, "an event and a message for the end of the job")
    assert {event["source"] for event in events} == {"retouch"}
    states = [event["detail"]["status"] for event in events]
    assert {"QUEUED", "RUNNING", "FINALIZING", "SUCCEEDED"} <= set(states)
    assert len(states) == len(set(states))
    [message] = messages
    told = json.loads(message["Message"])
    assert told["status"] == "SUCCEEDED"
    assert told["labels"] == {"order": "7"}
    assert told["outbox"]["images"] == ["news/item/item-1.png"]
    assert message["MessageAttributes"]["status"]["Value"] == "SUCCEEDED"
    assert message["MessageAttributes"]["model"]["Value"] == WANX
    for said in (*events, *messages):
        assert "private" not in json.dumps(said)
        assert "Signature=" not in json.dumps(said.get("detail", told))


BROKEN = [
    pytest.param(b"{not json", "", "not JSON", id="not JSON"),
    pytest.param(b"\xff\xfe", "", "not UTF-8", id="not UTF-8"),
    pytest.param(
        {"model": "wan2.8-image", "prompt": "x"}, "model", 'did you mean "wan2.7-image"', id="model"
    ),
    pytest.param(
        {"model": WAN27, "prompt": "x", "parameters": {"strength": 1}},
        "parameters.strength",
        "is not a parameter of wan2.7-image",
        id="parameter",
    ),
    pytest.param({"model": WAN27}, "prompt", "is missing", id="no prompt"),
]


@pytest.mark.parametrize(("sidecar", "field", "says"), BROKEN)
def test_a_broken_sidecar_is_rejected_and_its_neighbour_is_not(
    user: User, sidecar: Any, field: str, says: str
) -> None:
    folder = f"broken/{uuid.uuid4().hex[:6]}"
    user.put(f"{folder}/bad.jpg", picture())
    user.put(f"{folder}/good.jpg", picture())
    user.put(f"{folder}/bad.jpg.json", sidecar)
    user.put(f"{folder}/good.jpg.json", {"model": WAN27, "prompt": "sharper"})
    record = user.settled(f"{folder}/bad")
    assert record["status"] == "REJECTED"
    [problem] = record["problems"]
    assert problem["field"] == field
    assert says in problem["message"]
    assert user.settled(f"{folder}/good")["status"] == "SUCCEEDED"


def test_a_file_that_is_no_image_is_rejected_by_name(user: User) -> None:
    user.put("noimage/photo.jpg", b"this is text")
    user.put("noimage/photo.jpg.json", {"model": WAN27, "prompt": "x"})
    record = user.settled("noimage/photo")
    assert record["status"] == "REJECTED"
    [problem] = record["problems"]
    assert problem["field"] == "images"
    assert '"noimage/photo.jpg" is not a readable image' in problem["message"]


def test_a_refusal_for_content_ends_the_job_with_the_providers_words(user: User) -> None:
    user.put("refused/a.jpg", picture())
    user.put("refused/a.jpg.json", {"model": WAN27, "prompt": "something forbidden"})
    record = user.settled("refused/a")
    assert record["status"] == "FAILED"
    assert record["failure"]["code"] == "DataInspectionFailed"
    assert record["failure"]["request_id"]
    assert record["cost"] is None


def test_an_image_that_fails_beside_others_makes_the_job_partial(user: User) -> None:
    user.put("partial/a.jpg", picture())
    user.put(
        "partial/a.jpg.json",
        {
            "model": WANX,
            "function": "description_edit",
            "prompt": "one-unsafe picture",
            "parameters": {"n": 2},
        },
    )
    record = user.settled("partial/a")
    assert record["status"] == "PARTIAL"
    assert len(record["outputs"]) == 1
    assert [failure["code"] for failure in record["image_failures"]] == ["DataInspectionFailed"]
    assert record["cost"]["images"] == 1


@pytest.mark.parametrize(
    "name",
    ["two words", "one+one", "100%", "no#1", "红鞋", "👟 shoe", "a'b(c)&d=e"],
    ids=["space", "plus", "percent", "hash", "Chinese", "emoji", "punctuation"],
)
def test_a_key_of_any_characters_goes_through(user: User, name: str) -> None:
    user.put(f"keys/{name}.jpg", picture())
    user.put(f"keys/{name}.jpg.json", {"model": WAN27, "prompt": "brighter"})
    record = user.settled(f"keys/{name}")
    assert record["status"] == "SUCCEEDED"
    assert record["outputs"][0]["key"] == f"keys/{name}/{name}-1.png"


def test_a_repeated_event_bills_nothing_and_tells_nobody_again(user: User) -> None:
    news = user.inbox_of_news()
    word = f"w{uuid.uuid4().hex}"
    user.put("twice/a.jpg", picture())
    user.put("twice/a.jpg.json", {"model": WAN27, "prompt": word})
    record = user.settled("twice/a")
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {
            "bucket": {"name": user.stack.outputs["InboxBucket"]},
            "object": {"key": "twice/a.jpg.json"},
        },
    }
    sqs = user.client("sqs")
    queue = user.stack.outputs["UploadsQueueUrl"]
    for key in ("twice/a.jpg.json", "twice/a.jpg", "twice/a.jpg.json"):
        event["detail"]["object"]["key"] = key  # type: ignore[index]
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(event))
    # A job dropped afterwards has run, so the repeats have been worked off.
    user.put("twice/b.jpg", picture())
    user.put("twice/b.jpg.json", {"model": WAN27, "prompt": "after the repeats"})
    user.settled("twice/b")

    def empty() -> bool | None:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return True if {attributes[name] for name in names} == {"0"} else None

    until(empty, "an empty uploads queue")
    assert len(user.creates(word)) == 1
    assert user.record("twice/a") == record
    ends = [
        m for m in news() if m.get("Type") == "Notification" and record["job_id"] in m["Message"]
    ]
    assert len(ends) == 1


def test_what_lies_beside_jobs_starts_nothing(user: User) -> None:
    before = len(user.simulator("requests")["requests"])
    for key in (".hidden.json", "sub/~$a.json", "a.json.part", "_preset.json", "x.schema.json"):
        user.put(f"ignored/{key}", {"model": WAN27, "prompt": "never"})
    user.put("ignored/lonely.jpg", picture())
    user.put("ignored/last.jpg", picture())
    user.put("ignored/last.jpg.json", {"model": WAN27, "prompt": "the only one here"})
    user.settled("ignored/last")
    listed = user.s3.list_objects_v2(Bucket=user.stack.outputs["OutboxBucket"], Prefix="ignored/")
    assert {entry["Key"] for entry in listed["Contents"]} == {
        "ignored/last/job.json",
        "ignored/last/last-1.png",
    }
    seen = user.simulator("requests")["requests"][before:]
    assert "never" not in json.dumps(seen)


def test_limits_hold_and_nothing_private_is_in_logs_or_history(user: User) -> None:
    """Last in this file: it looks at what all the others left behind."""
    word = f"secretprompt{uuid.uuid4().hex}"
    for number in range(8):
        user.put(f"burst/{number}.jpg", picture())
        user.put(
            f"burst/{number}.jpg.json",
            {"model": WANX, "function": "colorization", "prompt": word},
        )
    for number in range(8):
        assert user.settled(f"burst/{number}")["status"] == "SUCCEEDED"
    stats = user.simulator("stats")
    assert stats["max_creates_in_a_second"][WANX] <= 2
    assert stats["max_creates_in_a_second"][WAN27] <= 5
    assert stats["max_queries_in_a_second"] <= 15
    assert not stats["refused"].get("Throttling.RateQuota")
    assert len(user.creates(word)) == 8
    sfn = user.client("stepfunctions")
    arn = user.stack.outputs["StateMachineArn"]
    executions = sfn.list_executions(stateMachineArn=arn, maxResults=1000)["executions"]
    assert len(executions) > 8
    history = json.dumps(
        [
            sfn.get_execution_history(executionArn=e["executionArn"], maxResults=1000)["events"]
            for e in executions
        ],
        default=str,
    )
    log = Path(user.stack.folder, "engine.log").read_text("utf-8", "replace")
    assert "lane served" in log  # the functions' own lines are in there
    for text, where in ((history, "history"), (log, "log")):
        assert word not in text, where
        assert "Signature=" not in text, where
        assert "sk-simulated" not in text, where
