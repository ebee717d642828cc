"""Local stacks: start, find, stop.

A stack is two processes of its own sessions, the engine and (where asked for) the provider simulator,
and a folder that says where they are. Everything listens on loopback only. A start that fails or is
interrupted takes down what it had started.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from retouch.catalogue import catalogue
from retouch.errors import OperatorError, SettingsError
from retouch.local.packaging import load_template, on_buckets, package, project_root
from retouch.registry import MODELS, REGIONS
from retouch.settings import Prices, budget, endpoints

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ParameterTypeDef
    from mypy_boto3_s3 import S3Client

REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
_SECRET: Final = "test"  # noqa: S105  the emulator takes any
DEFAULT_NAME: Final = "retouch"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
_CONCURRENCY: Final = "40"
"""Function calls at once on the embedded engine: each is a process; more would only compete.

Two of them are for contact sheets, which must not take a job's place.
"""
_ARTIFACTS: Final = "retouch-artifacts"
T = TypeVar("T")
_children: Final[dict[int, subprocess.Popen[bytes]]] = {}
"""What this process started and has not ended yet, so that it can be waited for."""


class StackOptionError(OperatorError):
    """An option that cannot be had; the message says what to choose instead."""


class StackError(OperatorError):
    """A local stack could not be started or reached; the message says what to do."""


@dataclass(frozen=True)
class Blueprint:
    """What to start.

    `provider` is `simulated`, `dashscope`, or the base URL of any server that speaks the contract.
    `time_scale` shortens the simulator's durations and the state machine's waits alike.
    """

    name: str = DEFAULT_NAME
    port: int | None = None
    provider: str = "simulated"
    provider_regions: tuple[str, ...] = ("beijing",)
    time_scale: float = 1.0
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Template parameters on top."""
    keep: Path | None = None
    """A folder in which the table and the buckets outlive the stack, however it ends. A later start
    with the same name and folder goes on from there; everything else is deployed anew, so the code is
    always the installed one."""


@dataclass(frozen=True)
class Running:
    """A stack that runs here."""

    name: str
    folder: str
    engine_pid: int
    simulator_pids: list[int]
    endpoint_url: str
    region: str
    provider: str
    provider_urls: dict[str, str]
    """The provider's base URL in each of its regions, the preferred one first."""
    outputs: dict[str, str]

    def environment(self) -> dict[str, str]:
        """What a boto3 client needs in its environment to reach this stack."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
        }

    def session(self) -> boto3.Session:
        """A boto3 session with this stack's credentials; clients also need the endpoint."""
        return boto3.Session(
            region_name=self.region, aws_access_key_id=ACCOUNT, aws_secret_access_key=_SECRET
        )


def home() -> Path:
    """The folder that remembers local stacks: $RETOUCH_HOME, else the user's state folder."""
    if chosen := os.environ.get("RETOUCH_HOME"):
        return Path(chosen)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "retouch"


def find(name: str) -> Running | None:
    """The running stack of that name, or None."""
    folder = home() / name
    if not _locked(folder / "lock"):
        return None
    try:
        return Running(**json.loads((folder / "stack.json").read_text("utf-8")))
    except FileNotFoundError:
        return None  # it is just starting
    except (TypeError, ValueError):
        return None  # another version started it; `stop` needs no more than its lock


def running() -> list[Running]:
    """Every stack that runs here, by name."""
    folders = sorted(home().iterdir()) if home().is_dir() else []
    found = (find(folder.name) for folder in folders if folder.is_dir())
    return [stack for stack in found if stack is not None]


def _locked(path: Path) -> bool:
    try:
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def start(
    blueprint: Blueprint,
    *,
    say: Callable[[str], None] = lambda _: None,
    until_we_end: bool = False,
) -> Running:
    """Start a stack and deploy the template to it; `say` hears each step.

    With `until_we_end` the processes end with this one.

    Raises:
        StackOptionError: an option that cannot be had; then nothing was started.
        StackError: a stack of that name runs already, or it did not come up.
    """
    check(blueprint)
    folder = home() / blueprint.name
    home().mkdir(parents=True, exist_ok=True)
    with _starting(blueprint.name):
        if _locked(folder / "lock"):
            raise StackError(f'the stack "{blueprint.name}" runs already; `retouch down` stops it')
        return _start(blueprint, folder, say, until_we_end)


@contextlib.contextmanager
def _starting(name: str) -> Iterator[None]:
    """Nobody else starts a stack of that name meanwhile."""
    path = home() / f"{name}.starting"
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f'the stack "{name}" is just being started') from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _start(
    blueprint: Blueprint, folder: Path, say: Callable[[str], None], until_we_end: bool
) -> Running:
    root = project_root()
    keys = _api_keys(blueprint)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        say("starting the embedded engine")
        engine, endpoint = _start_engine(blueprint, folder, until_we_end, processes)
        base_urls = _own_base_urls(blueprint)
        if blueprint.provider == "simulated":
            say("starting the provider simulator")
            for region in blueprint.provider_regions:
                base_urls[region] = _start_simulator(
                    blueprint, region, keys[region], folder, engine.pid, processes
                )
        say("deploying template.yaml")
        outputs = _deploy(blueprint, root, endpoint, base_urls, keys)
    except BaseException:
        for process in reversed(processes):
            _end(process.pid)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    stack = Running(
        name=blueprint.name,
        folder=str(folder),
        engine_pid=engine.pid,
        simulator_pids=[process.pid for process in processes[1:]],
        endpoint_url=endpoint,
        region=REGION,
        provider=blueprint.provider,
        provider_urls={
            region: base_urls.get(region) or REGIONS[region].base_url or "as configured"
            for region in blueprint.provider_regions
        },
        outputs=outputs,
    )
    _write(folder / "stack.json", json.dumps(asdict(stack), indent=2))
    return stack


def stop(name: str) -> bool:
    """Stop the stack of that name and forget it; False if none runs."""
    folder = home() / name
    if not _locked(folder / "lock"):
        return False
    stack = find(name)
    if stack is None:
        # Half started: whoever started it died first. Its simulator ends with the engine.
        written = (folder / "lock").read_text("utf-8").strip()
        if not written.isdecimal():
            raise StackError(f'the stack "{name}" is just being started')
        _end(int(written))
    else:
        for pid in (stack.engine_pid, *stack.simulator_pids):
            _end(pid)
    _await(lambda: True if not _locked(folder / "lock") else None, STOP_SECONDS, "the engine's end")
    shutil.rmtree(folder, ignore_errors=True)
    return True


def check(blueprint: Blueprint) -> dict[str, str]:
    """The template's parameters as the blueprint has them, those that the stack sets among them.

    Raises:
        StackOptionError: a parameter that the template does not have, or an impossible value.
    """
    definitions = load_template(project_root() / "template.yaml")["Parameters"]
    for name in blueprint.parameters:
        _check_name(name, definitions)
    base_urls = _own_base_urls(blueprint)
    if base_urls and len(blueprint.provider_regions) > 1:
        raise StackOptionError(
            "a provider given by its URL serves one region; name one with --provider-region"
        )
    if blueprint.provider == "simulated":  # where it will listen shows only once it runs
        base_urls = dict.fromkeys(blueprint.provider_regions, "http://127.0.0.1:1/api/v1")
    given = _parameters(blueprint, base_urls)
    defaults = {name: str(definition["Default"]) for name, definition in definitions.items()}
    try:
        _read_settings(defaults | given)
    except SettingsError as error:
        raise StackOptionError(_by_option(str(error), blueprint)) from error
    for name, value in given.items():
        if (wrong := _wrong(definitions[name], value)) is not None:
            raise StackOptionError(f"{_option(name, blueprint)}: {wrong}")
    return given


def _own_base_urls(blueprint: Blueprint) -> dict[str, str]:
    """The base URL, by region, of a provider that is given by it; of any other there is none."""
    if blueprint.provider in ("simulated", "dashscope"):
        return {}
    return {blueprint.provider_regions[0]: blueprint.provider}


def _parameters(blueprint: Blueprint, base_urls: Mapping[str, str]) -> dict[str, str]:
    """The template's parameters, with the provider's base URLs where they are not the regions' own."""
    return {
        "ProviderRegions": ",".join(blueprint.provider_regions),
        "InputDelivery": "push",
        **_of_base_urls(base_urls),
        **blueprint.parameters,
    }


def _of_base_urls(base_urls: Mapping[str, str]) -> dict[str, str]:
    """The parameters for a provider at other places than its own: results come from there too."""
    if not base_urls:
        return {}
    return {
        "ProviderBaseUrls": json.dumps(base_urls),
        "ResultHosts": ",".join(urlsplit(url).netloc for url in base_urls.values()),
    }


def _check_name(name: str, known: Collection[str]) -> None:
    near = name if name in known else _near(name, known)
    if near == "ProviderRegions":
        raise StackOptionError(f"--parameter {name}: --provider-region gives the regions")
    if name not in known:
        it_has = f'did you mean "{near}"? It has' if near else "it has"
        others = ", ".join(one for one in known if one != "ProviderRegions")
        raise StackOptionError(
            f"--parameter {name}: the template has no such parameter; {it_has} {others}"
        )


def _near(name: str, known: Iterable[str]) -> str | None:
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def _read_settings(values: Mapping[str, str]) -> None:
    """As the functions read them, which refuse what a pattern lets through."""
    catalogue(values["Models"])
    Prices.load(values["Prices"])
    budget(values["Budget"])
    endpoints(values["ProviderRegions"], values["ProviderBaseUrls"], values["ProviderWorkspaces"])


def _by_option(said: str, blueprint: Blueprint) -> str:
    """A message about a function's variable, as one about the option that sets it."""
    for name in (
        "Models",
        "Prices",
        "Budget",
        "ProviderRegions",
        "ProviderBaseUrls",
        "ProviderWorkspaces",
    ):
        variable = "RETOUCH" + re.sub("([A-Z])", r"_\1", name).upper()
        said = said.replace(variable, _option(name, blueprint))
    return said


def _option(name: str, blueprint: Blueprint) -> str:
    """The option that gives a parameter its value."""
    if name == "ProviderRegions":
        return "--provider-region"
    if name not in blueprint.parameters and name in _of_base_urls(_own_base_urls(blueprint)):
        return "--provider"
    return f"--parameter {name}"


def _wrong(definition: Mapping[str, Any], value: str) -> str | None:
    """How a value breaks what the template allows; None if it does not."""
    if allowed := definition.get("AllowedValues"):
        choices = [str(one) for one in allowed]
        if value not in choices:
            return f'"{_short(value)}" is not allowed; {", ".join(choices)} are'
    elif definition["Type"] == "Number":
        low, high = definition["MinValue"], definition["MaxValue"]
        # The functions take whole numbers only.
        if not re.fullmatch("[0-9]{1,9}", value) or not low <= int(value) <= high:
            return f'"{_short(value)}" must be a whole number from {low} to {high}'
    elif not re.fullmatch(definition["AllowedPattern"], value):
        where = ", on one line" if "\n" in value else ""
        return f'"{_short(value)}" {definition["ConstraintDescription"]}{where}'
    return None


def _short(value: str) -> str:
    """The value, for a message of one line."""
    line = " ".join(value.split())
    return line if len(line) <= 80 else f"{line[:79]}…"


def snapshots(parameters: Mapping[str, str]) -> dict[str, str]:
    """The models that only the parameter `Models` knows, and the registry's model that each is like."""
    models = catalogue(parameters.get("Models", "{}"))
    return {
        name: model.snapshot_of
        for name, model in models.items()
        if name not in MODELS and model.snapshot_of is not None
    }


def _api_keys(blueprint: Blueprint) -> dict[str, str]:
    """The key of each region, for the stack's secret.

    A simulated region gets a key of its own, which the others refuse, as it is at the provider.
    """
    regions = blueprint.provider_regions
    if blueprint.provider == "simulated":
        return {region: f"sk-simulated-{region}" for region in regions}
    if blueprint.provider != "dashscope":
        return {regions[0]: os.environ.get("DASHSCOPE_API_KEY", "").strip() or "sk-local"}
    return {region: _environment_key(region, alone=len(regions) == 1) for region in regions}


def _environment_key(region: str, *, alone: bool) -> str:
    names = [f"DASHSCOPE_API_KEY_{region.upper()}", *(["DASHSCOPE_API_KEY"] if alone else [])]
    for name in names:
        if key := os.environ.get(name, "").strip():
            return key
    raise StackOptionError(
        f"{names[-1]} is not set; export the provider's API key for {region}, or use "
        "--provider simulated"
    )


def _environment(folder: Path) -> dict[str, str]:
    """Ours without what could lead a local stack to somebody's AWS account, key or proxy."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "RETOUCH_", "DASHSCOPE_", "LAMBDA_", "SFN_"))
    }
    return {**kept, "TMPDIR": str(folder / "tmp"), "NO_PROXY": "127.0.0.1,localhost"}


def _start_engine(
    blueprint: Blueprint,
    folder: Path,
    until_we_end: bool,
    processes: list[subprocess.Popen[bytes]],
) -> tuple[subprocess.Popen[bytes], str]:
    port = blueprint.port or _free_port()
    if blueprint.port is not None and _taken(port):
        raise StackOptionError(f"port {port} is taken; choose another, or leave --port out")
    arguments = [sys.executable, "-m", "retouch.local.engine", "--lock", str(folder / "lock")]
    if until_we_end:
        arguments += ["--parent-pid", str(os.getpid())]
    buckets = folder / "s3"
    if blueprint.keep is not None:
        blueprint.keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments += ["--keep", str(blueprint.keep / "table.db")]
        buckets = blueprint.keep / "s3"
    environment = {
        **_environment(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "LAMBDA_ACCOUNT_CONCURRENCY": _CONCURRENCY,
        "SFN_WAIT_SCALE": str(blueprint.time_scale),
        # Listeners that this project has no use for.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(buckets),
    }
    log = folder / "engine.log"
    process = _spawn(arguments, environment, log, subprocess.DEVNULL)
    processes.append(process)
    endpoint = f"http://127.0.0.1:{port}"
    _await(
        lambda: True if _healthy(f"{endpoint}/_ministack/health") else None,
        START_SECONDS,
        "the engine",
        process,
        log,
    )
    return process, endpoint


def _start_simulator(
    blueprint: Blueprint,
    region: str,
    key: str,
    folder: Path,
    parent: int,
    processes: list[subprocess.Popen[bytes]],
) -> str:
    arguments = [
        sys.executable, "-m", "retouch.simulator", "--port", "0",
        "--region", region, "--account", f"{key}=simulated",
        "--time-scale", str(blueprint.time_scale), "--parent-pid", str(parent),
        *(f"--snapshot={name}={like}" for name, like in snapshots(blueprint.parameters).items()),
    ]  # fmt: skip
    said = folder / f"simulator-{region}.out"
    log = folder / f"simulator-{region}.log"
    with said.open("wb") as out:
        process = _spawn(arguments, _environment(folder), log, out)
    processes.append(process)

    def base_url() -> str | None:
        line = said.read_text("utf-8")
        return str(json.loads(line)["base_url"]) if line.endswith("\n") else None

    return _await(base_url, START_SECONDS, "the simulator", process, log)


def _spawn(
    arguments: list[str], environment: dict[str, str], log: Path, out: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    with log.open("wb") as err:
        process = subprocess.Popen(  # noqa: S603  our own modules
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=err if out == subprocess.DEVNULL else out,
            stderr=err,
            start_new_session=True,
        )
    _children[process.pid] = process
    return process


def _deploy(
    blueprint: Blueprint,
    root: Path,
    endpoint: str,
    base_urls: Mapping[str, str],
    keys: Mapping[str, str],
) -> dict[str, str]:
    session = boto3.Session(
        region_name=REGION, aws_access_key_id=ACCOUNT, aws_secret_access_key=_SECRET
    )
    config = Config(retries={"mode": "standard"}, s3={"addressing_style": "path"})

    def client(service: Any) -> Any:
        return session.client(service, endpoint_url=endpoint, config=config)

    s3 = client("s3")
    _ensure_bucket(s3, _ARTIFACTS)

    def upload(name: str, data: bytes) -> str:
        s3.put_object(Bucket=_ARTIFACTS, Key=name, Body=data)
        return f"s3://{_ARTIFACTS}/{name}"

    parameters: list[ParameterTypeDef] = [
        {"ParameterKey": name, "ParameterValue": value}
        for name, value in _parameters(blueprint, base_urls).items()
    ]
    template = package(root, upload)
    if blueprint.keep is not None:
        # A template makes new buckets; those that were kept have to be the same ones.
        buckets = {name: f"{blueprint.name}-{name.lower()}" for name in ("Inbox", "Outbox")}
        for bucket in buckets.values():
            _ensure_bucket(s3, bucket)
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            s3.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
            )
        template = on_buckets(template, buckets)
    cloudformation = client("cloudformation")
    cloudformation.create_stack(
        StackName=blueprint.name,
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=parameters,
    )

    def settled() -> dict[str, str] | None:
        stack = cloudformation.describe_stacks(StackName=blueprint.name)["Stacks"][0]
        status = stack["StackStatus"]
        if status == "CREATE_COMPLETE":
            return {o["OutputKey"]: o["OutputValue"] for o in stack.get("Outputs", [])}
        if status.endswith("_IN_PROGRESS"):
            return None
        reason = stack.get("StackStatusReason", "no reason given")
        raise StackError(f"the template was not deployed: {status}: {reason}")

    outputs = _await(settled, START_SECONDS, "the deployment")
    secret = next(iter(keys.values())) if len(keys) == 1 else json.dumps(keys)
    client("secretsmanager").put_secret_value(
        SecretId=outputs["ApiKeySecretArn"], SecretString=secret
    )
    return outputs


def _ensure_bucket(s3: S3Client, name: str) -> None:
    """Make a bucket, unless it is there; what is in it stays."""
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _await(
    look: Callable[[], T | None],
    seconds: float,
    what: str,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        if process is not None and process.poll() is not None:
            raise StackError(f"{what} ended with status {process.returncode}:\n{_tail(log)}")
        time.sleep(0.05)
    raise StackError(f"{what} did not come within {seconds:.0f} s\n{_tail(log)}")


def _tail(log: Path | None, lines: int = 15) -> str:
    if log is None or not log.is_file():
        return ""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])


def _end(pid: int) -> None:
    """End a process that we started and its group: asked first, then made to."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS / 2
        while time.monotonic() < deadline and _group_lives(pid):
            time.sleep(0.05)
        os.killpg(pid, signal.SIGKILL)
    if (child := _children.pop(pid, None)) is not None:
        child.wait()


def _group_lives(pid: int) -> bool:
    if (child := _children.get(pid)) is not None:
        child.poll()  # else it stays a zombie of ours, and its group alive
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, "utf-8")
    part.replace(path)


@contextlib.contextmanager
def temporary(
    blueprint: Blueprint, *, say: Callable[[str], None] = lambda _: None
) -> Iterator[Running]:
    """A stack for the length of a `with` block, gone afterwards whatever happens."""
    stack = start(blueprint, say=say, until_we_end=True)
    try:
        yield stack
    finally:
        stop(stack.name)
