"""The deployed state machine, walked with the real handlers and a clock that is moved.

It understands what `infra/edit-job.asl.json` uses and nothing else, so that a change of the definition
that it does not understand fails a test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.integration.conftest import ROOT

ASL = ROOT / "infra" / "edit-job.asl.json"
_INPUT = "{% $states.input %}"
_FIELD = re.compile(r"\{% \$states\.input\.(\w+) %\}")
_CONDITION = re.compile(r"\{% \$states\.input\.(\w+) = '(\w+)' %\}")
_FUNCTION = re.compile(r"\$\{(\w+)FunctionArn\}")

Json = dict[str, Any]
Handler = Callable[[Json], Json]


def definition() -> Json:
    """The state machine as it lies in the repository."""
    loaded = json.loads(ASL.read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def chosen(state: Json, carried: Json) -> str:
    """The state that a Choice leads to."""
    assert state["Type"] == "Choice"
    for choice in state["Choices"]:
        condition = _CONDITION.fullmatch(choice["Condition"])
        assert condition is not None, choice
        name, value = condition.groups()
        if carried.get(name) == value:
            return str(choice["Next"])
    return str(state["Default"])


def function_of(state: Json) -> str:
    """The function that a Task invokes, as the template names it."""
    assert state["Type"] == "Task"
    assert state["Resource"] == "arn:aws:states:::lambda:invoke"
    assert state["Arguments"]["Payload"] == _INPUT
    assert state["Output"] == "{% $states.result.Payload %}"
    found = _FUNCTION.fullmatch(state["Arguments"]["FunctionName"])
    assert found is not None
    return found[1]


class Machine:
    """Runs executions: `functions` by the template's name, `wait` lets time pass."""

    def __init__(self, functions: Mapping[str, Handler], wait: Callable[[float], object]):
        self._states: Json = definition()["States"]
        self._start: str = definition()["StartAt"]
        self._functions = functions
        self._wait = wait
        self.carried: list[str] = []
        """All that an execution's history would show of what it carried."""

    def run(self, payload: Json, most: int = 60) -> list[str]:
        """One execution to its end; the states it went through."""
        name = self._start
        went: list[str] = []
        while True:
            assert len(went) < most, went
            went.append(name)
            self.carried.append(json.dumps(payload))
            state = self._states[name]
            match state["Type"]:
                case "Succeed":
                    return went
                case "Wait":
                    field = _FIELD.fullmatch(state["Seconds"])
                    assert field is not None
                    seconds = payload[field[1]]
                    # Anything else than a whole number fails the execution.
                    assert type(seconds) is int, seconds
                    assert seconds >= 0
                    self._wait(seconds)
                    name = state["Next"]
                case "Choice":
                    name = chosen(state, payload)
                case "Task":
                    answer = self._functions[function_of(state)](payload)
                    payload = json.loads(json.dumps(answer))
                    name = state["Next"]
                case other:
                    raise AssertionError(other)
