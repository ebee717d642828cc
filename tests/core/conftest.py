"""Whatever the core tells in any of these tests is held against the published schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from retouch.registry import Json
from tests.fakes import FakeNotices, FakeOutbox
from tests.schemas import check_event, check_message, check_record

REPLAYS = ("test_crash_points", "test_schedules")
"""Modules that play the same changes again thousands of times."""


@pytest.fixture(autouse=True)
def published_schemas(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fakes listen for us: nothing here stands in for what is tested."""
    if request.path.stem in REPLAYS:
        return
    tell, notify, put = FakeNotices.tell, FakeNotices.notify, FakeOutbox.put

    def told(self: FakeNotices, detail_type: str, details: Sequence[Mapping[str, Json]]) -> None:
        for detail in details:
            check_event(detail_type, detail)
        tell(self, detail_type, details)

    def notified(
        self: FakeNotices,
        subject: str,
        message: Mapping[str, Json],
        attributes: Mapping[str, str],
    ) -> None:
        check_message(message)
        notify(self, subject, message, attributes)

    def written(self: FakeOutbox, key: str, data: bytes, content_type: str) -> str | None:
        if key.endswith("/job.json"):
            check_record(data)
        return put(self, key, data, content_type)

    monkeypatch.setattr(FakeNotices, "tell", told)
    monkeypatch.setattr(FakeNotices, "notify", notified)
    monkeypatch.setattr(FakeOutbox, "put", written)
