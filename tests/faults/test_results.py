"""Faults of results: of their download, of the outbox, and of who writes there when."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from retouch.errors import TryLater
from retouch.jobs import Job, Status
from retouch.provider.answers import TaskAnswer
from retouch.provider.client import RESULT_MAX_BYTES
from retouch.steps.submit import job_id_of, submit
from tests.fakes import (
    PHOTO,
    QWEN,
    RESULT_HOST,
    WANX,
    Effects,
    FakeClock,
    FakeProvider,
    Moment,
    World,
    picture,
    sidecar_json,
)
from tests.faults.dying import all_ended_well, deaths
from tests.faults.rules import Machinery, all_jobs, check_rules, play, play_for
from tests.faults.support import STAGES, Interruption, at_stage, now, only_job, put
from tests.faults.wire import Mishap, WiredProvider, after_all, broken, error, html, instead, wired
from tests.unit.test_provider_transport import Peer, Script, Server, provider, served

BLUE = picture(600, 600, "blue")


def ready(model: str = WANX, **fields: Any) -> tuple[World, WiredProvider]:
    """Two jobs in their lane's backlog, speaking to their provider by the real client."""
    world, wire = wired()
    for name in ("red", "blue"):
        put(world, name, model, **fields)
        submit(world, f"{name}.png.json")
        world.clock.advance(0.01)
    return world, wire


def images(world: World) -> dict[str, bytes]:
    """What lies in the outbox besides records."""
    return {key: world.outbox.data(key) for key in world.outbox.results()}


# --- expired ----------------------------------------


@pytest.mark.fault(36)
def test_fault_36_urls_that_expire_while_the_outbox_is_closed_are_asked_for_anew() -> None:
    world, wire = ready()
    world.outbox.refused |= {"red/red-1.png", "blue/blue-1.png"}
    begun = world.clock.now()

    def signed() -> int:
        return int((world.clock.now() - begun) // 3600)

    def fresh(handle: Any) -> httpx.Response:
        answer: httpx.Response = handle()
        text = answer.text.replace("Signature=x", f"Signature={signed()}")
        return httpx.Response(answer.status_code, text=text)

    def expires(handle: Any) -> httpx.Response:
        _, request = wire.requests[-1]
        if f"Signature={signed()}" not in str(request.url):
            return error(403, "AccessDenied", "Request has expired.")()
        return handle()  # type: ignore[no-any-return]

    wire.always["query"] = fresh
    wire.always["result"] = expires
    play_for(world, 10 * 3600)
    assert {job.status for job in all_jobs(world)} == {Status.FINALIZING}
    world.outbox.refused.clear()
    play(world)

    all_ended_well(world)
    assert {job.doubt for job in all_jobs(world)} == {None}
    check_rules(world)


@pytest.mark.fault(36)
@pytest.mark.parametrize("status", [403, 404])
def test_fault_36_results_that_are_gone_are_said_to_be_lost(status: int) -> None:
    world, wire = ready()
    wire.spoiled["task-0001"].append(instead(error(status, "AccessDenied", "Request has expired.")))

    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.FAILED, Status.SUCCEEDED)
    record = world.outbox.record("red")
    assert record["failure"]["code"] == "ResultGone"
    assert record["doubt"]
    (note,) = [n for n in world.notices.notifications if n.message["job_id"] == red.job_id]
    assert note.attributes["doubt"] == "true"
    assert list(images(world)) == ["blue/blue-1.png"]
    check_rules(world)


@pytest.mark.fault(36)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_36_results_that_cannot_be_copied_within_a_day_were_alarmed_in_time(
    model: str,
) -> None:
    world, wire = ready(model)
    world.outbox.refused.add("red/red-1.png")

    play_for(world, 20 * 3600 - 300)
    assert not [n for n in world.notices.notifications if n.attributes.get("kind") == "alert"]
    play_for(world, 600)
    (alert,) = [n for n in world.notices.notifications if n.attributes.get("kind") == "alert"]
    assert (alert.attributes["alert"], "red.png.json" in alert.message["text"]) == (
        "results-at-risk",
        True,
    )
    # Nobody acts on it, and the provider forgets.
    play_for(world, 5 * 3600)
    wire.always["result"] = instead(error(403, "AccessDenied", "Request has expired."))
    world.outbox.refused.clear()
    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.FAILED, Status.SUCCEEDED)
    assert red.doubt
    assert len(wire.billed) == 2
    check_rules(world)


# --- downloads ----------------------------------------


def _whole_but(**headers: str) -> Mishap:
    return after_all(lambda: httpx.Response(200, content=PHOTO, headers=headers))


PASSING: dict[str, Mishap] = {
    "ends early": instead(
        lambda: httpx.Response(
            200, content=iter([PHOTO[:200]]), headers={"Content-Length": str(len(PHOTO))}
        )
    ),
    "breaks off at once": instead(broken(httpx.ReadError)),
    "is refused a connection": instead(broken(httpx.ConnectError)),
    "is answered by a broken server": instead(html(503)),
    "is throttled": instead(error(429, "Throttling")),
}


@pytest.mark.fault(37)
@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize("times", [1, 5])
def test_fault_37_a_download_that_failed_is_repeated_and_leaves_nothing_behind(
    kind: str, times: int
) -> None:
    world, wire = ready()
    wire.spoiled["task-0001"].extend([PASSING[kind]] * times)

    play(world)

    all_ended_well(world)
    assert images(world) == {"red/red-1.png": PHOTO, "blue/blue-1.png": PHOTO}
    assert len(world.outbox.objects["red/red-1.png"]) == 1
    assert {job.doubt for job in all_jobs(world)} == {None}
    check_rules(world)


@pytest.mark.fault(37)
@pytest.mark.parametrize("times", [1, 3])
def test_fault_37_of_several_images_only_the_one_that_failed_is_fetched_again(times: int) -> None:
    world, wire = ready(parameters={"n": 4})
    fine: Mishap = lambda handle: handle()  # noqa: E731
    wire.spoiled["task-0001"].extend([fine, fine, *[PASSING["ends early"]] * times])

    play(world)

    all_ended_well(world)
    assert all(len(job.outputs) == 4 for job in all_jobs(world))
    for number in range(1, 5):
        assert len(world.outbox.objects[f"red/red-{number}.png"]) == 1
    check_rules(world)


def _endless() -> Iterator[bytes]:
    yield PHOTO
    chunk = b"\0" * (1024 * 1024)
    for _ in range(RESULT_MAX_BYTES // len(chunk) + 1):
        yield chunk


NO_IMAGES: dict[str, tuple[Mishap, str]] = {
    "a web page": (instead(html(200)), "ResultNotAnImage"),
    "nothing": (instead(lambda: httpx.Response(200, content=b"")), "ResultNotAnImage"),
    "JSON": (instead(lambda: httpx.Response(200, json={"url": "elsewhere"})), "ResultNotAnImage"),
    "a BMP": (
        instead(lambda: httpx.Response(200, content=picture(kind="BMP"))),
        "ResultNotAnImage",
    ),
    "larger than any result": (
        instead(lambda: httpx.Response(200, content=_endless())),
        "ResultTooLarge",
    ),
}


@pytest.mark.fault(37)
@pytest.mark.parametrize("kind", NO_IMAGES)
def test_fault_37_a_result_that_is_no_image_is_said_and_never_delivered(kind: str) -> None:
    world, wire = ready(parameters={"n": 2})
    mishap, code = NO_IMAGES[kind]
    wire.spoiled["task-0001"].append(mishap)

    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.PARTIAL, Status.SUCCEEDED)
    record = world.outbox.record("red")
    assert [failure["code"] for failure in record["image_failures"]] == [code]
    assert record["doubt"]  # two were billed, one is there
    assert record["cost"]["images"] == 2
    assert set(images(world)) == {"red/red-2.png", "blue/blue-1.png", "blue/blue-2.png"}
    assert set(images(world).values()) == {PHOTO}
    check_rules(world)


# Faults that only a real connection has: the server plays scripts to it on loopback.


class FetchingProvider(FakeProvider):
    """The fake, whose results are fetched by the real client from a server on loopback."""

    def __init__(self, clock: FakeClock, effects: Effects, server: Server, client: Any):
        super().__init__(clock, effects)
        self._client = client
        for number in (1, 2):
            url = f"http://127.0.0.1:{server.port}/{number}.png?Signature=x"
            self.answers[f"task-{number:04d}"] = TaskAnswer(
                status="SUCCEEDED", images=(url,), usage={"image_count": 1}
            )

    def fetch(self, url: str) -> Any:
        return self._client.fetch(url)


def _whole(peer: Peer) -> None:
    peer.answer(PHOTO)


def _a_byte_at_a_time(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO[:100])
    peer.drip(b"\0")


def _less_than_promised(peer: Peer) -> None:
    peer.answer(PHOTO[:-20], length=len(PHOTO))


def _cut_in_a_chunk(peer: Peer) -> None:
    peer.begin_stream()
    peer.chunk(PHOTO[:300])


def _nothing_promised_and_cut(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PHOTO[:-20])


def _more_than_promised(peer: Peer) -> None:
    peer.answer(PHOTO, length=len(PHOTO) - 20)


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    "script",
    [
        _a_byte_at_a_time,
        _less_than_promised,
        _cut_in_a_chunk,
        _nothing_promised_and_cut,
        _more_than_promised,
    ],
    ids=lambda script: script.__name__.removeprefix("_").replace("_", " "),
)
def test_fault_37_no_broken_image_is_delivered_however_the_connection_ends(script: Script) -> None:
    world = World()
    with served(script, _whole) as server, provider(server) as client:
        world.provider = FetchingProvider(world.clock, world.effects, server, client)
        put(world)
        submit(world, "red.png.json")

        play(world)

    assert set(images(world).values()) <= {PHOTO}
    job = only_job(world)
    if job.status is not Status.SUCCEEDED:  # it could not be known that time would mend it
        assert (job.status, bool(job.doubt)) == (Status.FAILED, True)
    check_rules(world)


# --- places that nothing may be fetched from ----------------------------------------

FORBIDDEN = {
    "a private network": "https://10.0.0.1/1.png",
    "the metadata service": "http://169.254.169.254/latest/meta-data/",
    "this host by its number": "http://2130706433/1.png",
    "this host in IPv6": "https://[::1]/1.png",
    "a private address in IPv6": "https://[fd00::1]/1.png",
    "a file": "file:///etc/passwd",
    "another scheme": "ftp://dashscope-result-bj.oss-cn-beijing.aliyuncs.com/1.png",
    "no URL": "not a url",
}


@pytest.mark.fault(38)
@pytest.mark.parametrize("kind", FORBIDDEN)
def test_fault_38_nothing_is_fetched_from_an_address_that_can_never_be_allowed(kind: str) -> None:
    world, wire = ready(parameters={"n": 2})
    wire.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED",
        images=(FORBIDDEN[kind], f"{RESULT_HOST}/2.png?Signature=x"),
        usage={"image_count": 2},
    )

    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.PARTIAL, Status.SUCCEEDED)
    assert {request.url.host for request in wire.sent("result")} == {RESULT_HOST[8:]}
    record = world.outbox.record("red")
    assert [failure["code"] for failure in record["image_failures"]] == ["ResultHostNotAllowed"]
    assert record["doubt"]
    check_rules(world)


REDIRECTS = {
    "to another host": "https://evil.example.com/1.png",
    "to this host": "http://127.0.0.1:8080/1.png",
    "to an allowed host": f"{RESULT_HOST}/other.png",
}


@pytest.mark.fault(38)
@pytest.mark.parametrize("kind", REDIRECTS)
@pytest.mark.parametrize("status", [301, 302, 307])
def test_fault_38_a_redirect_is_never_followed(kind: str, status: int) -> None:
    world, wire = ready(parameters={"n": 2})
    answer = httpx.Response(status, headers={"Location": REDIRECTS[kind]})
    wire.spoiled["task-0001"].append(instead(lambda: answer))

    play(world)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.PARTIAL, Status.SUCCEEDED)
    assert REDIRECTS[kind] not in {str(request.url) for request in wire.sent("result")}
    assert [f.code for f in red.image_failures] == ["ResultHostNotAllowed"]
    assert red.doubt
    check_rules(world)


UNKNOWN_HOSTS = {
    "another host": "https://results.example.com/1.png?Signature=x",
    "a name that ends alike": "https://evil-dashscope-result-bj.oss-cn-beijing.aliyuncs.com/1.png",
    "a name that begins alike": f"{RESULT_HOST}.example.com/1.png",
    "a name before the host": f"https://{RESULT_HOST[8:]}@results.example.com/1.png",
    "another port": f"{RESULT_HOST}:8443/1.png",
    "a loopback host": "http://localhost:9000/1.png",
}


@pytest.mark.fault(38)
@pytest.mark.parametrize("kind", UNKNOWN_HOSTS)
def test_fault_38_a_host_not_on_the_list_waits_for_an_operator_and_is_alarmed(kind: str) -> None:
    world, wire = ready()
    wire.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED", images=(UNKNOWN_HOSTS[kind],), usage={"image_count": 1}
    )

    play_for(world, 21 * 3600)

    red, blue = all_jobs(world)
    assert (red.status, blue.status) == (Status.FINALIZING, Status.SUCCEEDED)
    record = world.outbox.record("red")
    assert record["refusal"]["code"] == "ResultHostNotAllowed"
    assert "ResultHosts" in record["refusal"]["message"]
    assert {request.url.host for request in wire.sent("result")} == {RESULT_HOST[8:]}
    (alert,) = [n for n in world.notices.notifications if n.attributes.get("kind") == "alert"]
    assert alert.attributes["alert"] == "results-at-risk"
    assert "ResultHostNotAllowed" in alert.message["text"]

    play(world)  # nobody acts, and a day goes by
    assert now(world, red).status is Status.FAILED
    assert now(world, red).doubt
    assert {request.url.host for request in wire.sent("result")} == {RESULT_HOST[8:]}
    check_rules(world)


@pytest.mark.fault(38)
def test_fault_38_an_operator_who_allows_the_host_in_time_gets_the_result() -> None:
    world, wire = ready()
    wire.answers["task-0001"] = TaskAnswer(
        status="SUCCEEDED",
        images=(UNKNOWN_HOSTS["another host"],),
        usage={"image_count": 1},
    )
    play_for(world, 5 * 3600)

    wire.allow("results.example.com")
    red = all_jobs(world)[0]
    assert world.operate("retry", red.job_id)["could_not"] == ""
    play(world)

    all_ended_well(world)
    (fetched,) = [r for r in wire.sent("result") if r.url.host == "results.example.com"]
    assert "Authorization" not in fetched.headers
    assert now(world, red).doubt is None
    check_rules(world)


# --- the outbox ----------------------------------------


class Closed:
    """An outbox that refuses every write from the `number`th on, for so long."""

    def __init__(self, world: World, number: int, seconds: float, code: str):
        self._world = world
        self._error = ClientError({"Error": {"Code": code}}, "PutObject")
        self._number = number
        self._seconds = seconds
        self._count = 0
        self._until: float | None = None
        self.refused = 0
        world.effects.throttle = self

    def __call__(self, name: str) -> bool:
        if not name.startswith("put "):
            return False
        self._count += 1
        if self._count == self._number:
            self._until = self._world.clock.now() + self._seconds
        refuse = self._until is not None and self._world.clock.now() < self._until
        refuse = refuse or self._count == self._number
        self.refused += refuse
        if refuse:
            raise self._error
        return False


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("seconds", "code"), [(0.0, "SlowDown"), (60.0, "InternalError"), (3600.0, "AccessDenied")]
)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_39_the_outbox_refuses_every_write_for_a_while_from_any_point_on(
    model: str, seconds: float, code: str
) -> None:
    for number in itertools.count(1):
        world = World()
        for name in ("red", "blue"):
            put(world, name, model)
        closed = Closed(world, number, seconds, code)

        play(world, "red.png", "red.png.json", "blue.png", "blue.png.json")

        if not closed.refused:
            break
        all_ended_well(world)
        assert {job.doubt for job in all_jobs(world)} == {None}
        check_rules(world, told_again=True)
    assert number > 5


@pytest.mark.fault(39)
@pytest.mark.parametrize("key", ["red/job.json", "red/red-1.png"])
def test_fault_39_one_folder_that_refuses_writes_for_hours_holds_up_no_other_job(key: str) -> None:
    world = World()
    world.outbox.refused.add(key)
    names = ["red", *(f"job{number}" for number in range(10))]
    for name in names:
        put(world, name)

    machinery = Machinery(world)
    machinery.uploads = [(world.clock.now(), f"{name}.png.json") for name in names]
    ends = world.clock.now() + 3 * 3600
    while world.clock.now() < ends:
        machinery.step(until=ends)

    by_name = {job.folder: job for job in all_jobs(world)}
    red = by_name.pop("red")
    assert {job.status for job in by_name.values()} == {Status.SUCCEEDED}
    latest = max(job.finished_at or 0 for job in by_name.values())
    assert latest - world.clock.now() + 3 * 3600 < 400
    if key == "red/red-1.png":
        assert red.status is Status.FINALIZING  # it is not closed before its results are there
        assert world.outbox.record("red")["status"] == "FINALIZING"
    world.outbox.refused.clear()
    play(world)

    all_ended_well(world)
    assert images(world)["red/red-1.png"] == PHOTO
    check_rules(world, told_again=True)


# --- dying at the end ----------------------------------------


@pytest.mark.fault(40)
@pytest.mark.parametrize("model", [WANX, QWEN])
def test_fault_40_finalize_dies_at_any_point_between_its_first_write_and_its_last(
    model: str,
) -> None:
    seen = set()
    for death in deaths(model, "red"):
        if death.status not in (Status.FINALIZING, Status.SUCCEEDED):
            continue
        seen.add((death.name, death.moment))
        world = death.world
        all_ended_well(world)
        job = only_job(world)
        assert world.store.terminal_statuses(job.job_id) == [Status.SUCCEEDED]
        told = [n for n in world.notices.notifications if n.message["status"] == "SUCCEEDED"]
        assert 1 <= len(told) <= 2
        assert images(world) == {"red/red-1.png": PHOTO}
    for moment in Moment:
        assert ("put red/red-1.png", moment) in seen
        assert ("notify", moment) in seen
        assert ("mark_published", moment) in seen


@pytest.mark.fault(40)
@pytest.mark.parametrize("moment", list(Moment))
def test_fault_40_a_job_of_several_images_copies_each_once_although_it_died_between_them(
    moment: Moment,
) -> None:
    world = World()
    put(world, parameters={"n": 4})
    submit(world, "red.png.json")
    died: list[str] = []

    def plan(_: int, name: str) -> Moment | None:
        if name == "put red/red-3.png" and not died:
            died.append(name)
            return moment
        return None

    world.effects.plan = plan
    play(world)

    all_ended_well(world)
    assert died
    for number in (1, 2, 4):
        assert len(world.outbox.objects[f"red/red-{number}.png"]) == 1
    assert only_job(world).doubt is None
    check_rules(world)


# --- an older job and a newer one ----------------------------------------


def colours(world: World, *tasks: bytes) -> None:
    """What each task's result looks like."""
    for number, data in enumerate(tasks, 1):
        (url,) = FakeProvider.urls(f"task-{number:04d}", 1)
        world.provider.files[url] = (data,)


def newer_version(world: World) -> str:
    """Drop a newer version of the sidecar, and play that to its end; its job's id."""
    version = world.inbox.put("red.png.json", sidecar_json(prompt="edit it anew"))
    submit(world, "red.png.json")
    play_for(world, 60)
    job_id = job_id_of("red.png.json", version)
    assert world.store.the_job(job_id).status is Status.SUCCEEDED
    return job_id


def check_newer(world: World, older: Job, newer_id: str) -> None:
    """The newer one's results and record are what lies at the name; the older one's are beside it."""
    newer = world.store.the_job(newer_id)
    assert world.outbox.data("red/red-1.png") == BLUE
    assert world.outbox.record("red")["job_id"] == newer_id
    assert (newer.status, now(world, older).status) == (Status.SUCCEEDED, Status.SUCCEEDED)
    (result,) = now(world, older).outputs
    assert world.outbox.read(result.key, result.version_id) == PHOTO
    assert sorted(world.provider.billed) == ["edit it anew", "edit red"]
    check_rules(world, told_again=True)


@pytest.mark.fault(41)
@pytest.mark.parametrize("stage", ["queued", "running", "finalizing"])
def test_fault_41_an_older_job_that_is_still_under_way_ends_in_a_folder_of_its_own(
    stage: str,
) -> None:
    world = World()
    colours(world, PHOTO, BLUE)
    for each in STAGES[: STAGES.index(stage) + 1]:
        at_stage(world, each)
    older = only_job(world)
    if stage == "running":
        world.provider.tasks_made["task-0001"].ends_at += 1000
    for execution in world.executions.running():
        execution.due = world.clock.now() + 500
    version = world.inbox.put("red.png.json", sidecar_json(prompt="edit it anew"))
    submit(world, "red.png.json")

    play(world)

    after = now(world, older)
    if stage != "queued":
        assert [output.key for output in after.outputs] == [
            f"red/{older.job_id}/{older.job_id}-1.png"
        ]
        assert world.outbox.record(f"red/{older.job_id}")["status"] == "SUCCEEDED"
    check_newer(world, older, job_id_of("red.png.json", version))


@pytest.mark.fault(41)
def test_fault_41_a_newer_job_comes_and_ends_at_any_point_of_the_older_one_s_end() -> None:
    for number in itertools.count(1):
        world = World()
        colours(world, PHOTO, BLUE)
        for each in STAGES[:4]:
            at_stage(world, each)
        older = only_job(world)
        for execution in world.executions.running():
            execution.due = world.clock.now() + 900  # it is this very call that counts
        newer: list[str] = []

        def overtake(world: World = world, newer: list[str] = newer) -> None:
            newer.append(newer_version(world))

        interruption = Interruption(world, number, overtake)
        with suppress(TryLater):
            world.finalize(older.job_id, older.fence)
        if not interruption.happened:
            break
        play(world)

        check_newer(world, older, newer[0])
    assert number > 4


class Looks:
    """Lets something else happen just before the `number`th look at who has the place, or what lies
    there.
    """

    def __init__(self, world: World, number: int, action: Callable[[], object]):
        self.happened = False
        self._count = 0
        self._number = number
        self._action = action
        self._looks = (world.outbox.current, world.store.latest_job_of)
        world.outbox.current = self._current  # type: ignore[method-assign]
        world.store.latest_job_of = self._latest  # type: ignore[method-assign]

    def _current(self, key: str) -> str | None:
        self._before()
        return self._looks[0](key)

    def _latest(self, sidecar: str) -> str | None:
        self._before()
        return self._looks[1](sidecar)

    def _before(self) -> None:
        self._count += 1
        if self._count == self._number:
            self.happened = True
            self._action()


@pytest.mark.fault(41)
def test_fault_41_a_newer_job_comes_and_ends_between_any_two_looks_of_the_older_one() -> None:
    for number in itertools.count(1):
        world = World()
        colours(world, PHOTO, BLUE)
        for each in STAGES[:4]:
            at_stage(world, each)
        older = only_job(world)
        for execution in world.executions.running():
            execution.due = world.clock.now() + 900
        newer: list[str] = []

        def overtake(world: World = world, newer: list[str] = newer) -> None:
            newer.append(newer_version(world))

        looks = Looks(world, number, overtake)
        with suppress(TryLater):
            world.finalize(older.job_id, older.fence)
        if not looks.happened:
            break
        play(world)

        check_newer(world, older, newer[0])
    assert number > 4


@pytest.mark.fault(41)
def test_fault_41_a_newer_job_is_entered_at_any_point_of_the_older_one_s_end_and_ends_later() -> (
    None
):
    for number in itertools.count(1):
        world = World()
        colours(world, PHOTO, BLUE)
        for each in STAGES[:4]:
            at_stage(world, each)
        older = only_job(world)

        def drop(world: World = world) -> None:
            world.inbox.put("red.png.json", sidecar_json(prompt="edit it anew"))
            submit(world, "red.png.json")

        interruption = Interruption(world, number, drop)
        with suppress(TryLater):
            world.finalize(older.job_id, older.fence)
        if not interruption.happened:
            break
        play(world)

        check_newer(world, older, all_jobs(world)[-1].job_id)
    assert number > 4


@pytest.mark.fault(41)
def test_fault_41_an_older_record_that_is_written_late_does_not_cover_the_newer_one() -> None:
    # Whoever tells of the older job was stopped just before its record was written.
    for number in itertools.count(1):
        world = World()
        colours(world, PHOTO, BLUE)
        for each in STAGES[:3]:
            at_stage(world, each)
        world.clock.advance(60)
        writes = itertools.count(1)
        newer: list[str] = []

        def overtake(world: World = world, newer: list[str] = newer) -> None:
            newer.append(newer_version(world))

        def before(number: int = number, world: World = world) -> None:
            if next(writes) == number:  # noqa: B023  the loop's own
                overtake()
            else:
                world.outbox.before_put.append(before)

        world.outbox.before_put.append(before)
        for execution in world.executions.running():
            execution.due = world.clock.now()
        play(world)
        if not newer:
            break

        newest = world.store.the_job(newer[0])
        assert json.loads(world.outbox.data("red/job.json"))["job_id"] == newest.job_id
        assert sorted(world.provider.billed) == ["edit it anew", "edit red"]
        check_rules(world, told_again=True)
    assert number > 2
