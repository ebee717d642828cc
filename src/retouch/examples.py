"""Working sidecars, one for each function and mode of each model: `data/examples/MODEL/NAME.json`.

The JSON Schema offers them to editors and the reference's pages show them; a test runs every one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from retouch.registry import Function, Json, Model


@dataclass(frozen=True)
class Example:
    """A sidecar; `name` is the file's, without its suffix."""

    model: str
    name: str
    text: str

    @property
    def sidecar(self) -> dict[str, Json]:
        """Its JSON."""
        value = json.loads(self.text)
        assert isinstance(value, dict)  # noqa: S101  a file of ours
        return value


@cache
def load() -> tuple[Example, ...]:
    """All of them, by model and name."""
    return tuple(sorted(_read(), key=lambda example: (example.model, example.name)))


def _read() -> Iterator[Example]:
    for folder in resources.files("retouch").joinpath("data/examples").iterdir():
        for file in folder.iterdir():
            name = file.name.removesuffix(".json")
            yield Example(folder.name, name, file.read_text("utf-8"))


def of(model: Model, function: Function | None) -> tuple[dict[str, Json], ...]:
    """The sidecars for a model, or for one of its functions."""
    wanted = None if function is None else function.name
    return tuple(
        example.sidecar
        for example in load()
        if example.model == model.name and example.sidecar.get("function") == wanted
    )
