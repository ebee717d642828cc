"""Which key each of the provider's regions gets out of the stack's secret."""

from __future__ import annotations

import json

import pytest

from retouch.errors import SettingsError
from retouch.settings import api_key

BOTH = ("beijing", "singapore")
KEYS = json.dumps({"beijing": "sk-b", "singapore": " sk-s\n"})


@pytest.mark.parametrize(
    ("secret", "region", "regions", "expected"),
    [
        pytest.param(" sk-one\n", "beijing", ("beijing",), "sk-one", id="one key, plain"),
        pytest.param(KEYS, "beijing", BOTH, "sk-b", id="one of two"),
        pytest.param(KEYS, "singapore", BOTH, "sk-s", id="the other"),
        pytest.param(
            '{"virginia": "sk-v"}', "virginia", ("virginia",), "sk-v", id="one, by region"
        ),
    ],
)
def test_each_region_has_its_own_key(
    secret: str, region: str, regions: tuple[str, ...], expected: str
) -> None:
    assert api_key(secret, region, regions) == expected


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        pytest.param(" \n", "is empty", id="nothing"),
        pytest.param("sk-one", 'put a key for each into it: {"beijing": "sk-…"', id="one for two"),
        pytest.param('{"beijing": "sk-b"}', "has no key for singapore", id="not this region's"),
        pytest.param('{"singapore": 7}', "has no key for singapore", id="no text"),
        pytest.param("{oops", "has no key for singapore", id="not JSON"),
        pytest.param('{"singapore": "sk-sp-1"}', "subscription plan", id="a plan's key"),
    ],
)
def test_a_secret_without_a_usable_key_says_what_to_put_in_and_never_what_is_there(
    secret: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        api_key(secret, "singapore", BOTH)

    assert said in str(caught.value)
    for part in ("sk-one", "sk-b", "oops"):
        assert part not in str(caught.value)
