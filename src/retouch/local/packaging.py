"""Packaging: the template with its local paths replaced by uploaded artifacts.

What `sam package` does, for the few kinds of path that our template has. The layer holds only the
package itself: on the embedded engine its dependencies come from the environment that runs it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from retouch.errors import OperatorError

_NOT_IN_LAYER: Final = ("cli", "local", "samples", "simulator")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
Upload = Callable[[str, bytes], str]
"""Stores bytes under a name and gives back their s3:// URI."""


def project_root() -> Path:
    """The folder that holds `template.yaml`.

    Raises:
        OperatorError: the package was installed without its repository.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "template.yaml").is_file():
        raise OperatorError(
            "template.yaml is not beside this installation of retouch; a local stack is started from "
            "a clone of the repository (pip install -e .)"
        )
    return root


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags, as the long forms."""


def _tag(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _tag)


def load_template(path: Path) -> dict[str, Any]:
    """A CloudFormation template with its short tags written out."""
    loaded = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506  a SafeLoader
    assert isinstance(loaded, dict)  # noqa: S101  our own file
    return loaded


def package(root: Path, upload: Upload) -> dict[str, Any]:
    """The project's template with every local path uploaded."""
    template = load_template(root / "template.yaml")
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case "AWS::Serverless::Function":
                source = root / properties["CodeUri"]
                properties["CodeUri"] = _send(upload, _zipped(_files(source, source)), "zip")
            case "AWS::Serverless::LayerVersion":
                package_ = root / "src" / "retouch"
                files = (
                    (f"python/retouch/{name}", data)
                    for name, data in _files(package_, package_)
                    if name.split("/", 1)[0] not in _NOT_IN_LAYER
                )
                properties["ContentUri"] = _send(upload, _zipped(files), "zip")
            case "AWS::Serverless::StateMachine":
                data = (root / properties["DefinitionUri"]).read_bytes()
                properties["DefinitionUri"] = _send(upload, data, "json")
    return template


def on_buckets(template: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The template without some of its buckets: those of these names are there already.

    Raises:
        ValueError: something but a bucket's name or ARN is referred to.
    """
    resources = {key: value for key, value in template["Resources"].items() if key not in names}
    found = _referring({**template, "Resources": resources}, names)
    assert isinstance(found, dict)  # noqa: S101  as it was
    return found


def _referring(value: object, names: Mapping[str, str]) -> object:
    match value:
        case {"Ref": str(name)} if name in names:
            return names[name]
        case {"Fn::GetAtt": [str(name), *attribute]} if name in names:
            if attribute != ["Arn"]:
                raise ValueError(f"{name}.{'.'.join(map(str, attribute))} of a bucket is not known")
            return f"arn:aws:s3:::{names[name]}"
        case {"Fn::Sub": str(text)}:
            for name, bucket in names.items():
                text = text.replace(f"${{{name}.Arn}}", f"arn:aws:s3:::{bucket}")
                text = text.replace(f"${{{name}}}", bucket)
            return {"Fn::Sub": text}
        case dict():
            return {key: _referring(inner, names) for key, inner in value.items()}
        case list():
            return [_referring(inner, names) for inner in value]
        case _:
            return value


def _files(folder: Path, base: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(base).as_posix(), path.read_bytes()


def _zipped(files: Iterator[tuple[str, bytes]]) -> bytes:
    """A zip whose bytes follow from its contents alone, so that an unchanged function stays so."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _send(upload: Upload, data: bytes, suffix: str) -> str:
    return upload(f"{hashlib.sha256(data).hexdigest()}.{suffix}", data)
