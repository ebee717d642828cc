"""One stack for the tests that only drop and look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from retouch.local.stack import Blueprint, Running, temporary
from tests.e2e.support import SNAPSHOT, User


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETOUCH_HOME", str(folder))
        patch.delenv("DASHSCOPE_API_KEY", raising=False)
        yield folder


@pytest.fixture(scope="session")
def stack(home: Path) -> Iterator[Running]:
    blueprint = Blueprint(
        name="e2e",
        time_scale=0.1,
        provider_regions=("beijing", "singapore"),
        parameters={"Models": json.dumps({SNAPSHOT: {"like": "wan2.7-image"}})},
    )
    with temporary(blueprint) as running:
        yield running


@pytest.fixture(scope="session")
def user(stack: Running) -> User:
    return User(stack)
