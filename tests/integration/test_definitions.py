"""The deployed definitions against each other: the state machine, the template, the settings."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from typing import Any

import pytest

from retouch.jobs import ADMITTED_LEASE_SECONDS, SYNC_LEASE_SECONDS, Status
from retouch.records import EVENT_SOURCE, EVENT_TYPE
from retouch.registry import TASK_DEADLINE_SECONDS, Mode
from retouch.settings import Settings, WebhookSettings
from retouch.sheets import WITH_A_PAGE
from retouch.webhook import ANSWER_SECONDS, CONNECT_SECONDS, check_url, keys_in, pause
from tests.integration.conftest import ROOT
from tests.integration.machine import ASL, chosen, definition, function_of

FUNCTIONS = ("Submit", "Dispatch", "Poll", "Generate", "Finalize", "Operate", "Reconcile", "Sheet")


@pytest.fixture(scope="module")
def machine() -> dict[str, Any]:
    return definition()


def followers(state: dict[str, Any]) -> Iterator[str]:
    if "Next" in state:
        yield state["Next"]
    if "Default" in state:
        yield state["Default"]
    for branch in (*state.get("Choices", []), *state.get("Catch", [])):
        yield branch["Next"]


def test_every_state_leads_to_one_that_exists(machine: dict[str, Any]) -> None:
    states = machine["States"]

    assert machine["StartAt"] in states
    for name, state in states.items():
        leads_to = list(followers(state))
        assert set(leads_to) <= set(states), name
        ends = state.get("End") is True or state["Type"] in ("Succeed", "Fail")
        assert ends != bool(leads_to), f"{name} both ends and goes on, or neither"


def test_every_state_can_be_reached(machine: dict[str, Any]) -> None:
    reached: set[str] = set()
    queue = [machine["StartAt"]]
    while queue:
        name = queue.pop()
        if name not in reached:
            reached.add(name)
            queue += followers(machine["States"][name])

    assert reached == set(machine["States"])


def test_every_state_can_come_to_an_end(machine: dict[str, Any]) -> None:
    states = machine["States"]
    ending = {
        name
        for name, state in states.items()
        if state.get("End") or state["Type"] in ("Succeed", "Fail")
    }
    for _ in states:
        ending |= {name for name, state in states.items() if ending & set(followers(state))}

    assert ending == set(states)


def test_every_choice_has_a_default(machine: dict[str, Any]) -> None:
    choices = [state for state in machine["States"].values() if state["Type"] == "Choice"]

    assert choices
    assert all("Default" in state for state in choices)


def test_what_the_choices_compare_is_what_the_functions_answer(machine: dict[str, Any]) -> None:
    compared = {
        state_name: set(re.findall(r"= '(\w+)'", json.dumps(state)))
        for state_name, state in machine["States"].items()
        if state["Type"] == "Choice"
    }

    assert compared == {
        "Mode": {str(Mode.SYNC)},
        "Ended": {"finalize", "stop"},
        "Finalized": {"finalize"},
    }


@pytest.mark.parametrize(
    ("answered", "follows"),
    [
        ({"next": "finalize"}, "Finalize"),
        ({"next": "stop"}, "Stopped"),
        ({"next": "stop", "status": None}, "Stopped"),
        ({}, "Stopped"),
    ],
)
def test_finalize_goes_round_until_it_says_that_it_is_through(
    machine: dict[str, Any], answered: dict[str, Any], follows: str
) -> None:
    states = machine["States"]
    assert states["Finalize"]["Next"] == "Finalized"

    assert chosen(states["Finalized"], answered) == follows
    # What it answers is carried into its next turn whole, so nothing must be lost on the way.
    assert "Output" not in states["Finalized"]
    assert "Assign" not in states["Finalized"]


@pytest.mark.parametrize(
    ("answered", "follows"),
    [
        ({"next": "finalize"}, "Finalize"),
        ({"next": "stop"}, "Stopped"),
        ({"next": "wait"}, "Wait"),
    ],
)
def test_a_turn_leads_where_the_function_says(
    machine: dict[str, Any], answered: dict[str, Any], follows: str
) -> None:
    assert chosen(machine["States"]["Ended"], answered) == follows


@pytest.mark.parametrize(("mode", "follows"), [(Mode.SYNC, "Generate"), (Mode.ASYNC, "Poll")])
def test_a_mode_leads_to_its_function(machine: dict[str, Any], mode: Mode, follows: str) -> None:
    assert chosen(machine["States"]["Mode"], {"mode": str(mode)}) == follows


def test_every_task_invokes_the_function_of_its_name(machine: dict[str, Any]) -> None:
    tasks = {name: state for name, state in machine["States"].items() if state["Type"] == "Task"}

    assert {name: function_of(state) for name, state in tasks.items()} == {
        name: name for name in ("Poll", "Generate", "Finalize")
    }


def test_the_machine_names_no_address_and_no_key() -> None:
    # Rule 7: it carries ids, and what it carries is in its history.
    text = ASL.read_text("utf-8")

    assert not re.search(r"https?:", text)
    for word in ("url", "secret", "sk-", "authorization", "prompt", "aliyuncs"):
        assert word not in text.lower(), word


def test_every_task_is_retried(machine: dict[str, Any]) -> None:
    tasks = [state for state in machine["States"].values() if state["Type"] == "Task"]

    assert len(tasks) == 3
    for task in tasks:
        assert any("States.ALL" in retry["ErrorEquals"] for retry in task["Retry"])


def test_the_machine_outlasts_a_task_s_deadline(machine: dict[str, Any]) -> None:
    assert machine["TimeoutSeconds"] > TASK_DEADLINE_SECONDS


def test_substitutions_are_given_and_used(template: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{(\w+)\}", ASL.read_text("utf-8")))
    properties = template["Resources"]["EditJob"]["Properties"]

    assert properties["DefinitionUri"] == "infra/edit-job.asl.json"
    assert used == set(properties["DefinitionSubstitutions"])


def test_substitutions_are_arns_of_functions_that_the_machine_may_invoke(
    template: dict[str, Any],
) -> None:
    properties = template["Resources"]["EditJob"]["Properties"]
    arns = list(properties["DefinitionSubstitutions"].values())

    (policy,) = properties["Policies"]
    (statement,) = policy["Statement"]
    assert statement["Action"] == "lambda:InvokeFunction"
    for arn in arns:
        assert arn in statement["Resource"]
        assert template["Resources"][arn["Fn::GetAtt"][0]]["Type"] == "AWS::Serverless::Function"


# --- functions ----------------------------------------


def function(template: dict[str, Any], name: str) -> dict[str, Any]:
    properties = template["Resources"][f"{name}Function"]["Properties"]
    assert isinstance(properties, dict)
    return properties


def statements(template: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [
        statement
        for policy in function(template, name)["Policies"]
        for statement in policy["Statement"]
    ]


def allowed(template: dict[str, Any], name: str) -> set[str]:
    actions: set[str] = set()
    for statement in statements(template, name):
        action = statement["Action"]
        actions |= set(action) if isinstance(action, list) else {action}
    return actions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_s_code_is_there(template: dict[str, Any], name: str) -> None:
    uri = function(template, name)["CodeUri"]

    assert (ROOT / uri / "app.py").is_file()
    assert uri == f"functions/{name.lower()}/"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gets_every_setting_that_the_code_reads_and_no_other(
    template: dict[str, Any], name: str
) -> None:
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    own = function(template, name).get("Environment", {}).get("Variables", {})
    given = {key: "1" for key in {**shared, **own} if key.startswith("RETOUCH_")}
    given |= {
        "RETOUCH_PROVIDER_REGIONS": "beijing",
        "RETOUCH_INPUT_DELIVERY": "presigned",
        "RETOUCH_ACCOUNT_USE": "alone",
        "RETOUCH_PRICES": "{}",
        "RETOUCH_BUDGET": "{}",
        "RETOUCH_PROVIDER_BASE_URLS": "{}",
        "RETOUCH_PROVIDER_WORKSPACES": "{}",
        "RETOUCH_MODELS": "{}",
    }
    read: set[str] = set()

    class Watched(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            read.add(key)
            return super().get(key, default)

    Settings.from_env(Watched(given))

    assert read - set(given) <= {"RETOUCH_STATE_MACHINE_ARN"}
    assert set(given) <= read


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_starts_executions_is_told_of_the_machine(
    template: dict[str, Any], name: str
) -> None:
    own = function(template, name).get("Environment", {}).get("Variables", {})

    starts = "states:StartExecution" in allowed(template, name)
    assert (
        starts
        == ("RETOUCH_STATE_MACHINE_ARN" in own)
        == (name in ("Dispatch", "Operate", "Reconcile"))
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_tell_of_every_state_that_it_can_bring_a_job_to(
    template: dict[str, Any], name: str
) -> None:
    # Every step publishes, and a job that a step holds or closes is told of on the topic.
    needed = {"s3:PutObject", "events:PutEvents", "sns:Publish"}

    if name == "Sheet":  # it brings no job anywhere
        assert needed & allowed(template, name) == {"s3:PutObject"}
    else:
        assert needed <= allowed(template, name)


@pytest.mark.parametrize("name", ["Dispatch", "Poll", "Generate", "Finalize", "Operate"])
def test_a_function_that_calls_the_provider_may_read_its_key(
    template: dict[str, Any], name: str
) -> None:
    assert "secretsmanager:GetSecretValue" in allowed(template, name)


@pytest.mark.parametrize("name", ["Submit", "Dispatch", "Generate", "Operate", "Sheet"])
def test_a_function_that_reads_or_presigns_inputs_may_read_their_versions(
    template: dict[str, Any], name: str
) -> None:
    assert {"s3:GetObject", "s3:GetObjectVersion"} <= allowed(template, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_may_do_anything_to_everything(template: dict[str, Any], name: str) -> None:
    for statement in statements(template, name):
        assert statement["Resource"] != "*"
        assert "*" not in json.dumps(statement["Action"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_tells_of_the_end_of_a_step_may_tell_submit_of_it(
    template: dict[str, Any], name: str
) -> None:
    queues = [
        statement["Resource"]
        for statement in statements(template, name)
        if statement["Action"] == "sqs:SendMessage"
    ]

    assert ({"Fn::GetAtt": ["Uploads", "Arn"]} in queues) == (
        "events:PutEvents" in allowed(template, name)
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_asks_after_executions_may_look_at_them(
    template: dict[str, Any], name: str
) -> None:
    looks = "states:DescribeExecution" in allowed(template, name)

    assert looks == (name in ("Operate", "Reconcile"))


def test_the_command_line_finds_every_output_that_it_needs(template: dict[str, Any]) -> None:
    outputs = template["Outputs"]

    assert outputs["OperateFunctionName"]["Value"] == {"Ref": "OperateFunction"}
    assert outputs["UploadsQueueUrl"]["Value"] == {"Ref": "Uploads"}
    assert outputs["Models"]["Value"] == {"Ref": "Models"}
    assert set(outputs) >= {"InboxBucket", "OutboxBucket", "TableName", "ProviderRegions"}


def test_nobody_but_a_person_invokes_operate(template: dict[str, Any]) -> None:
    assert "Events" not in function(template, "Operate")
    (policy,) = template["Resources"]["EditJob"]["Properties"]["Policies"]
    assert {"Fn::GetAtt": ["OperateFunction", "Arn"]} not in policy["Statement"][0]["Resource"]


def test_every_function_of_the_repository_is_in_the_template(template: dict[str, Any]) -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    resources = template["Resources"]
    named = {
        name.removesuffix("Function")
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }

    assert named == {*FUNCTIONS, "Webhook"}
    assert folders == {name.lower() for name in named}


# --- the webhook ----------------------------------------


def test_without_an_address_the_stack_has_nothing_of_the_webhook(template: dict[str, Any]) -> None:
    assert template["Parameters"]["WebhookUrl"]["Default"] == ""
    parts = {
        (section, name)
        for section in ("Resources", "Outputs")
        for name, part in template[section].items()
        if part.get("Condition") == "HasWebhook"
    }

    assert parts == {
        (section, name)
        for section in ("Resources", "Outputs")
        for name in template[section]
        if name.startswith("Webhook")
    }
    # Nothing else leans on what may not be there.
    for section in ("Resources", "Outputs"):
        for name, part in template[section].items():
            if (section, name) not in parts:
                assert "Webhook" not in json.dumps(part), name


def test_the_webhook_gets_every_setting_that_it_reads_and_no_other(
    template: dict[str, Any],
) -> None:
    assert template["Resources"]["WebhookFunction"]["IgnoreGlobals"] == ["Environment"]
    given = function(template, "Webhook")["Environment"]["Variables"]
    read: set[str] = set()

    class Watched(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            read.add(key)
            return super().get(key, default)

    WebhookSettings.from_env(Watched(dict.fromkeys(given, "1")))

    assert read == {name for name in given if name.startswith("RETOUCH_")}
    shared = template["Globals"]["Function"]["Environment"]["Variables"]
    for name, value in given.items():
        if name.startswith("POWERTOOLS_"):
            assert shared[name] == value


def test_the_webhook_may_do_three_things(template: dict[str, Any]) -> None:
    said = {str(one["Action"]): one["Resource"] for one in statements(template, "Webhook")}

    assert said == {
        "secretsmanager:GetSecretValue": {"Ref": "WebhookSecret"},
        "sqs:ChangeMessageVisibility": {"Fn::GetAtt": ["Webhook", "Arn"]},
        "sqs:SendMessage": {"Fn::GetAtt": ["WebhookDlq", "Arn"]},
    }


def test_the_topic_alone_fills_the_webhook_s_queue_with_messages_as_they_are(
    template: dict[str, Any],
) -> None:
    resources = template["Resources"]
    subscription = resources["WebhookSubscription"]["Properties"]
    (statement,) = resources["WebhookPolicy"]["Properties"]["PolicyDocument"]["Statement"]

    assert subscription["RawMessageDelivery"] is True
    assert "FilterPolicy" not in subscription
    assert subscription["TopicArn"] == {"Ref": "Topic"}
    assert subscription["Endpoint"] == {"Fn::GetAtt": ["Webhook", "Arn"]} == statement["Resource"]
    assert statement["Principal"] == {"Service": "sns.amazonaws.com"}
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Ref": "Topic"}}}


def test_a_message_to_the_webhook_outlasts_its_attempts(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    queue = resources["Webhook"]["Properties"]
    attempts = template["Parameters"]["WebhookAttempts"]
    timeout = function(template, "Webhook")["Timeout"]

    assert queue["RedrivePolicy"]["maxReceiveCount"] == {"Ref": "WebhookAttempts"}
    assert queue["VisibilityTimeout"] >= 6 * timeout
    assert timeout > 2 * (CONNECT_SECONDS + ANSWER_SECONDS) - ANSWER_SECONDS
    first = template["Parameters"]["WebhookBackoff"]["MaxValue"]
    longest = sum(pause(n, first) for n in range(1, attempts["MaxValue"]))
    assert longest < queue["MessageRetentionPeriod"]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("", True),
        ("https://hooks.example.com/in?token=x", True),
        ("https://hooks.example.com:8443?x=1", True),
        ("https://10.0.0.7/in", True),
        ("http://127.0.0.1:9000/hook", True),
        ("http://localhost/", True),
        ("http://hooks.example.com/in", False),
        ("http://127.0.0.1.example.com/", False),
        ("https://user:secret@hooks.example.com/", False),
        ("https://hooks.example.com/#x", False),
        ("https://hooks.example.com/a b", False),
        ("https://", False),
        ("hooks.example.com", False),
    ],
)
def test_an_address_of_the_webhook_is_https_or_on_this_machine(
    template: dict[str, Any], url: str, allowed: bool
) -> None:
    pattern = template["Parameters"]["WebhookUrl"]["AllowedPattern"]

    assert (re.fullmatch(pattern, url) is not None) == allowed
    if allowed and url:
        check_url(url)


def test_the_secret_that_is_made_is_a_signing_key(template: dict[str, Any]) -> None:
    made = template["Resources"]["WebhookSecret"]["Properties"]["GenerateSecretString"]
    letters = set(string.printable) - set(string.whitespace) - set(made["ExcludeCharacters"])

    assert made["ExcludePunctuation"] is True
    assert letters == set(string.ascii_letters + string.digits)
    assert len(keys_in("aZ09" * (made["PasswordLength"] // 4))[0]) == 33


def test_the_queues_outlast_the_functions_they_feed(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    uploads = resources["Uploads"]["Properties"]["VisibilityTimeout"]
    kicks = resources["Kicks"]["Properties"]["VisibilityTimeout"]

    sheets = resources["Sheets"]["Properties"]["VisibilityTimeout"]

    assert uploads >= 6 * function(template, "Submit")["Timeout"]
    assert kicks > function(template, "Dispatch")["Timeout"]
    assert sheets > function(template, "Sheet")["Timeout"]


def test_the_leases_outlast_the_functions_that_hold_them(template: dict[str, Any]) -> None:
    assert function(template, "Dispatch")["Timeout"] < ADMITTED_LEASE_SECONDS
    assert function(template, "Generate")["Timeout"] < SYNC_LEASE_SECONDS


def test_the_failure_rule_hears_exactly_the_ends_that_need_a_remedy(
    template: dict[str, Any],
) -> None:
    pattern = function(template, "Reconcile")["Events"]["ExecutionEnded"]["Properties"]["Pattern"]

    assert pattern["source"] == ["aws.states"]
    assert set(pattern["detail"]["status"]) == {"FAILED", "TIMED_OUT", "ABORTED"}


def test_the_sheets_rule_hears_our_own_events_of_every_end_on_the_stack_s_bus(
    template: dict[str, Any],
) -> None:
    rule = template["Resources"]["SheetsRule"]["Properties"]

    assert rule["EventBusName"] == {"Ref": "EventBus"}
    assert rule["EventPattern"]["source"] == [EVENT_SOURCE]
    assert rule["EventPattern"]["detail-type"] == [EVENT_TYPE]
    settled = {str(status) for status in Status if status.settled}
    assert set(rule["EventPattern"]["detail"]["status"]) == settled == set(WITH_A_PAGE)


def test_a_contact_sheet_can_hold_no_job_up(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    assert resources["SheetsRule"]["Properties"]["Targets"] == [
        {"Id": "sheets", "Arn": {"Fn::GetAtt": ["Sheets", "Arn"]}}
    ]
    (event,) = function(template, "Sheet")["Events"].values()
    assert event["Properties"]["Queue"] == {"Fn::GetAtt": ["Sheets", "Arn"]}
    assert event["Properties"]["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert event["Properties"]["BatchSize"] == 1
    redrive = resources["Sheets"]["Properties"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["SheetsDlq", "Arn"]}
    assert "dynamodb" not in json.dumps(function(template, "Sheet")["Policies"])
