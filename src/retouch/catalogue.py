"""The models of one stack: the registry's, with an account's own limits and new snapshots on top.

An account may have been given other limits, and the provider dates new snapshots of its models; both
need configuration only, JSON by model name:

    {"wanx2.1-imageedit": {"quota": {"creates": 5, "per_seconds": 1, "running": 5}},
     "wan2.7-image-2026-09-01": {"like": "wan2.7-image", "regions": ["beijing"]}}

A name that the registry has is changed, in what is given; any other must say which model it is like.
Prices are apart, in `Prices`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from retouch.errors import SettingsError
from retouch.registry import MODELS, REGIONS, Model, Quota, snapshot

Catalogue: TypeAlias = Mapping[str, Model]
"""Models by name."""


class _Configured(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Quota(_Configured):
    creates: Annotated[int, Field(ge=1, le=1000)]
    per_seconds: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] | None = None
    running: Annotated[int, Field(ge=1, le=1000)] | None = None


class _Change(_Configured):
    like: str | None = None
    quota: _Quota | None = None
    regions: Annotated[list[str], Field(min_length=1)] | None = None


# A name becomes a part of a lane's, and so of a message group.
_Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_CHANGES: TypeAdapter[dict[str, _Change]] = TypeAdapter(dict[_Name, _Change])


def catalogue(changes: str = "{}", *, source: str = "RETOUCH_MODELS") -> Catalogue:
    """The registry's models with `changes`, JSON as above, on top; `source` names it in messages.

    Raises:
        SettingsError: not JSON of that shape, a model that nothing is like, a region it cannot have.
    """
    try:
        wanted = _CHANGES.validate_json(changes)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(part) for part in found['loc']) or 'the whole'}: {found['msg']}"
            for found in error.errors(include_url=False)[:5]
        )
        raise SettingsError(f"{source}: {said}") from error
    models = dict(MODELS)
    for name, change in wanted.items():
        models[name] = _changed(_base_of(name, change, source), change)
    return models


def _base_of(name: str, change: _Change, source: str) -> Model:
    known = MODELS.get(name)
    if known is not None:
        if change.like is not None:
            raise SettingsError(f"{source}: {name} is known; leave `like` out to change its limits")
        base = known
    else:
        like = MODELS.get(change.like or "")
        if like is None:
            raise SettingsError(
                f'{source}: {name} is not known; say which model it is like, "like": one of '
                f"{', '.join(MODELS)}"
            )
        base = snapshot(like, name)
    if impossible := set(change.regions or ()) - set(base.regions):
        raise SettingsError(
            f"{source}: {name} cannot be in {', '.join(sorted(impossible))}; {base.name} exists in "
            f"{', '.join(base.regions)}"
        )
    return base


def _changed(base: Model, change: _Change) -> Model:
    model = base
    if change.quota is not None:
        quota = change.quota
        running = quota.running if quota.running is not None else base.quota.running
        seconds = quota.per_seconds if quota.per_seconds is not None else base.quota.per_seconds
        model = replace(model, quota=Quota(quota.creates, seconds, running))
    if change.regions is not None:
        in_order = tuple(region for region in REGIONS if region in change.regions)
        model = replace(model, regions=in_order)
    return model
