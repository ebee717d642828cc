"""Writes what follows from the code: a reference page for each model, and the JSON Schemas.

    make docs

The pages are committed, so that they can be read where the code is read; a test keeps them equal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from retouch import examples, schemas
from retouch.examples import Example
from retouch.registry import MIB, MODELS, READINGS, REGIONS, Function, Mode, Model, Parameter
from retouch.settings import Prices
from retouch.sidecar import schema

ROOT = Path(__file__).resolve().parents[1]
MODELS_FOLDER = Path("docs/reference/models")
DATA_FOLDER = Path("src/retouch/data")
SCHEMA_FILE = DATA_FOLDER / "sidecar.schema.json"
_MADE_BY = "<!-- Made by tools/reference.py from the registry; `make docs` makes it anew. -->"
_CALLS = {
    Mode.ASYNC: "by an asynchronous task",
    Mode.SYNC: "in one synchronous call",
}


def files() -> dict[Path, str]:
    """Every file that is made, by its path below the project's root."""
    made = {MODELS_FOLDER / f"{model.name}.md": page(model) for model in MODELS.values()}
    made[MODELS_FOLDER / "README.md"] = index()
    made[SCHEMA_FILE] = _document(schema())
    for name, told in schemas.files().items():
        made[DATA_FOLDER / name] = _document(told)
    return made


def there() -> list[Path]:
    """What lies in the folders that hold nothing else than what is made."""
    pages, events = ROOT / MODELS_FOLDER, ROOT / DATA_FOLDER / "events"
    return [*pages.glob("*.md"), *events.glob("*")]


def _document(schema: schemas.Schema) -> str:
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


def index() -> str:
    """The page that lists the models."""
    rows = [
        f"| [`{model.name}`]({model.name}.md) | {model.says} | {_images(model)} | "
        f"{', '.join(model.calls)} | {', '.join(model.regions)} |"
        for model in MODELS.values()
    ]
    return _joined(
        _MADE_BY,
        "# Models",
        "A page for each model: what it takes in, every parameter, and sidecars that work, all of "
        "which the tests run.",
        "\n".join(
            ["| model | does | images in | called | regions |", "|---|---|---|---|---|", *rows]
        ),
        "New dated snapshots and other limits of an account need no new code: the stack's parameter "
        "[`Models`](../stack.md#models).",
        "## Where the provider's pages disagree",
        "What holds for every model; each page has its own.",
        "\n".join(f"* {reading.says}" for reading in READINGS),
    )


def page(model: Model) -> str:
    """The page of a model."""
    return _joined(
        _MADE_BY,
        f"# {model.name}",
        " ".join((model.says, *model.notes)),
        _facts(model),
        "## Parameters",
        "What stands under *sent* goes out where the sidecar says nothing, in place of the provider's "
        "own default."
        if any(p.sent is not None for p in model.parameters)
        else "",
        _parameters(model),
        *_usage(model),
        "## Where the provider's pages disagree",
        "Which reading retouch follows:",
        "\n".join(f"* {reading.says}" for reading in model.readings),
    )


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _images(model: Model) -> str:
    spans = []
    for count in model.images.counts:
        span = f"{count.least}" if count.least == count.most else f"{count.least}–{count.most}"
        spans.append(span if str(count.when) == "always" else f"{span} where {count.when}")
    return "; else ".join(spans)


def _facts(model: Model) -> str:
    images = model.images
    rows = [
        ("called", " or ".join(_CALLS[call] for call in model.calls)),
        ("regions", ", ".join(f"`{name}`" for name in model.regions)),
        ("price of an image", _prices(model)),
        ("quota of an account", _quota(model)),
        ("images in", _images(model)),
        ("formats", ", ".join(images.formats)),
        ("bytes", f"at most {images.max_bytes // MIB} MB each"),
    ]
    if images.sides:
        rows.append(("sides", f"{images.sides[0]}–{images.sides[1]} pixels"))
    if images.advised_sides:
        low, high = images.advised_sides
        rows.append(("sides", f"{low}–{high} pixels advised; others are a warning"))
    if images.ratio:
        rows.append(("ratio", f"1:{images.ratio:g} to {images.ratio:g}:1"))
    rows.append(("transparency", "not mentioned; sent as it is" if images.alpha else "not taken"))
    rows.append(("prompt", f"required, at most {model.prompt_chars} characters"))
    negative = model.negative_prompt_chars
    rows.append(("negative prompt", f"at most {negative} characters" if negative else "none"))
    rows.append(("images out", model.output))
    rows.append(("usually takes", model.takes))
    for call in model.calls:
        lacking = [r for r in model.regions if call not in REGIONS[r].calls]
        if lacking:
            rows.append(("not there", f"{call} calls in {', '.join(lacking)}"))
    return _table(("", ""), rows)


def _prices(model: Model) -> str:
    prices = Prices.load()
    known = [
        f"{price.currency} {price.amount} in {region}"
        + ("" if price.documented else " (as reported; no document states it)")
        for region in model.regions
        if (price := prices.of(region, model.name)) is not None
    ]
    return ("; ".join(known) or "not known") + ", unless the stack's `Prices` say otherwise"


def _quota(model: Model) -> str:
    quota = model.quota
    running = f"{quota.running} tasks at once" if quota.running else "no limit of calls at once"
    return f"{quota.creates} calls in {quota.per_seconds:g} s, {running}"


def _parameters(model: Model) -> str:
    rows = []
    for parameter in model.parameters:
        sent = "" if parameter.sent is None else f"`{json.dumps(parameter.sent)}`"
        default = _default(parameter)
        rows.append((f"`{parameter.name}`", _allowed(parameter), default, sent, _says(parameter)))
    return _table(("parameter", "allowed", "provider's default", "sent", ""), rows)


def _default(parameter: Parameter) -> str:
    said = [] if parameter.default is None else [f"`{json.dumps(parameter.default)}`"]
    for variant in parameter.variants:
        if variant.default not in (None, parameter.default):
            said.append(f"`{json.dumps(variant.default)}` where {variant.when}")
    return "; ".join(said)


def _allowed(parameter: Parameter) -> str:
    said = [parameter.kind.allowed]
    said += [f"{variant.kind.allowed} where {variant.when}" for variant in parameter.variants]
    return "; ".join(said).replace("|", "\\|")


def _says(parameter: Parameter) -> str:
    said = parameter.says
    if parameter.functions is not None:
        said += f" Only {', '.join(f'`{name}`' for name in parameter.functions)}."
    if parameter.only is not None:
        said += f" Only where {parameter.only}."
    if parameter.examples:
        said += f" Recommended: {', '.join(f'`{value}`' for value in parameter.examples)}."
    if parameter.effective is not None:
        said += f" Has effect only where {parameter.effective}; a warning elsewhere."
    return said


def _usage(model: Model) -> Iterator[str]:
    mine = [example for example in examples.load() if example.model == model.name]
    if not model.functions:
        yield "## Sidecars"
        for example in mine:
            yield f"### {example.name.replace('-', ' ').capitalize()}"
            yield _shown(example)
        return
    yield "## Functions"
    for function in model.functions:
        yield f"### {function.name}"
        yield _does(model, function)
        for example in mine:
            if example.sidecar["function"] == function.name:
                yield _shown(example)


def _does(model: Model, function: Function) -> str:
    own = [f"`{p.name}`" for p in model.having(function.name) if p.functions is not None]
    said = function.says
    if function.examples:
        said += f" The provider promises to know: {', '.join(function.examples)}."
    if function.mask:
        said += " Needs `mask`: pure white is edited, pure black is kept."
    return said + (f" Has {', '.join(own)} of its own." if own else "")


def _shown(example: Example) -> str:
    return f"```json\n{example.text.strip()}\n```"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


def main() -> int:
    """Write every file whose text has changed, and take away those of what is gone."""
    made = files()
    for path, text in made.items():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_text("utf-8") != text:
            target.write_text(text, "utf-8")
            print(f"wrote {path}")
    for path in there():
        if path.relative_to(ROOT) not in made:
            path.unlink()
            print(f"removed {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
