"""Answers as the contract prints them (sections 2 to 4), and as no contract would."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retouch.jobs import Answer, Failure
from retouch.provider.answers import (
    CODE_CHARS,
    MESSAGE_CHARS,
    MOST_IMAGES,
    TEXT_CHARS,
    URL_CHARS,
    ListedTask,
    RewrittenPrompt,
    TaskAnswer,
    created_task,
    failure_in,
    parse,
    storable,
    task_answer,
    task_page,
)
from retouch.registry import Json

BJ = "https://dashscope-result-bj.oss-cn-beijing.aliyuncs.com"
SH = "https://dashscope-result-sh.oss-cn-shanghai.aliyuncs.com"
SZ = "https://dashscope-result-sz.oss-cn-shenzhen.aliyuncs.com"
TIMEOUT = (
    "An internal timeout error has occured during execution, please try again later or contact "
    "service support."
)


def read(text: str) -> dict[str, Json]:
    body = parse(text)
    assert body is not None
    return body


def answered(text: str, *, synchronous: bool = False, refused: bool = False) -> TaskAnswer:
    return task_answer(read(text), synchronous=synchronous, refused=refused)


# --- the contract's samples ------------------------------------------------------------------------


def test_created_2_1() -> None:
    body = read(
        '{"output":{"task_status":"PENDING","task_id":"0b1e6f0c-0000-4000-8000-000000000001"},'
        '"request_id":"7d0c…"}'
    )
    assert created_task(body) == "0b1e6f0c-0000-4000-8000-000000000001"
    assert failure_in(body) is None
    answer = task_answer(body)
    assert (answer.status, answer.terminal, answer.images) == ("PENDING", False, ())


def test_refused_2_1() -> None:
    body = read(
        '{"code":"InvalidApiKey","message":"Invalid API-key provided.","request_id":"fb53…"}'
    )
    assert created_task(body) is None
    assert failure_in(body) == Failure(
        code="InvalidApiKey", message="Invalid API-key provided.", request_id="fb53…"
    )


def test_expired_2_4() -> None:
    answer = answered('{"request_id":"a1","output":{"task_id":"86ec","task_status":"UNKNOWN"}}')
    assert answer == TaskAnswer("UNKNOWN", request_id="a1")
    assert answer.terminal


# 2026-02-21 17:56:31.786 in UTC+8
SUBMITTED = datetime(2026, 2, 21, 9, 56, 31, 786_000, tzinfo=UTC).timestamp()


def test_wanx_succeeded_3_2() -> None:
    answer = answered(
        '{"request_id":"eeef…","output":{"task_id":"a425…","task_status":"SUCCEEDED",'
        '"submit_time":"2026-02-21 17:56:31.786","scheduled_time":"2026-02-21 17:56:31.821",'
        '"end_time":"2026-02-21 17:56:42.530",'
        f'"results":[{{"url":"{SH}/a.png?Expires=1"}}],'
        '"task_metrics":{"TOTAL":1,"SUCCEEDED":1,"FAILED":0}},"usage":{"image_count":1}}'
    )
    assert answer == TaskAnswer(
        "SUCCEEDED",
        request_id="eeef…",
        images=(f"{SH}/a.png?Expires=1",),
        reading=(1,),
        usage={"image_count": 1},
        submitted_at=SUBMITTED,
        scheduled_at=SUBMITTED + 0.035,
        ended_at=SUBMITTED + 10.744,
    )
    assert answer.terminal
    assert answer.billed_images == 1
    assert answer.output_size is None


def test_qwen_succeeded_3_3() -> None:
    answer = answered(
        '{"output":{"choices":[{"finish_reason":"stop","message":{"role":"assistant","content":['
        f'{{"image":"{SZ}/1.png?Expires=1"}},{{"image":"{SZ}/2.png?Expires=1"}}]}}}}]}},'
        '"usage":{"image_count":2,"width":1024,"height":1536},"request_id":"bf37…"}',
        synchronous=True,
    )
    assert answer == TaskAnswer(
        "SUCCEEDED",
        request_id="bf37…",
        images=(f"{SZ}/1.png?Expires=1", f"{SZ}/2.png?Expires=1"),
        reading=(1, 2),
        usage={"image_count": 2, "width": 1024, "height": 1536},
    )
    assert answer.output_size == (1024, 1536)


def test_wan_2_5_succeeded_with_a_rewritten_prompt_3_4() -> None:
    answer = answered(
        '{"request_id":"d1f2…","output":{"task_id":"7f48…","task_status":"SUCCEEDED",'
        '"submit_time":"2026-03-01 22:14:10.800","scheduled_time":"2026-03-01 22:14:10.825",'
        '"end_time":"2026-03-01 22:15:23.456",'
        f'"results":[{{"url":"{SH}/x.png?Expires=1",'
        '"orig_prompt":"replace the mug with a teapot",'
        '"actual_prompt":"Replace the white mug on the wooden table by …"}],'
        '"task_metrics":{"TOTAL":1,"SUCCEEDED":1,"FAILED":0}},"usage":{"image_count":1}}'
    )
    assert answer.images == (f"{SH}/x.png?Expires=1",)
    rewritten = "Replace the white mug on the wooden table by …"
    assert answer.rewritten_prompts == (rewritten,)
    assert answer.prompts == (RewrittenPrompt("replace the mug with a teapot", rewritten),)
    assert answer.image_failures == ()


def test_wan_2_6_gives_each_image_as_its_own_choice_3_5() -> None:
    answer = answered(
        '{"request_id":"43d9…","output":{"task_id":"858c…","task_status":"SUCCEEDED",'
        '"finished":true,"submit_time":"2025-12-16 04:21:02.275",'
        '"scheduled_time":"2025-12-16 04:21:02.304","end_time":"2025-12-16 04:24:46.658",'
        '"choices":[{"finish_reason":"stop","message":{"role":"assistant","content":'
        f'[{{"type":"image","image":"{BJ}/1.png?Expires=1"}}]}}}},'
        '{"finish_reason":"stop","message":{"role":"assistant","content":'
        f'[{{"type":"image","image":"{BJ}/2.png?Expires=1"}}]}}}}]}},'
        '"usage":{"size":"1376*768","image_count":2,"input_tokens":0,"output_tokens":0,'
        '"total_tokens":0}}'
    )
    assert answer.images == (f"{BJ}/1.png?Expires=1", f"{BJ}/2.png?Expires=1")
    assert answer.billed_images == 2


def test_interleaved_texts_and_images_keep_their_order_3_5() -> None:
    answer = answered(
        '{"request_id":"997a…","output":{"task_id":"5c67…","task_status":"SUCCEEDED",'
        '"finished":true,"choices":[{"finish_reason":"stop","message":{"role":"assistant",'
        '"content":[{"type":"text","text":"First, loosen the soil …"},'
        f'{{"type":"image","image":"{SH}/1.png?Expires=1"}},{{"type":"text","text":"Then …"}},'
        f'{{"type":"image","image":"{SH}/2.png?Expires=1"}}]}}}}]}},'
        '"usage":{"size":"1280*1280","image_count":2,"input_tokens":29,"output_tokens":477,'
        '"total_tokens":506}}'
    )
    assert answer.texts == ("First, loosen the soil …", "Then …")
    assert answer.reading == ("First, loosen the soil …", 1, "Then …", 2)
    assert answer.images == (f"{SH}/1.png?Expires=1", f"{SH}/2.png?Expires=1")


WAN_27 = (
    '{"request_id":"810f…","output":{"task_id":"a81e…","task_status":"SUCCEEDED","finished":true,'
    '"submit_time":"2026-03-26 17:16:01.663","scheduled_time":"2026-03-26 17:16:01.716",'
    '"end_time":"2026-03-26 17:16:22.961",'
    '"choices":[{"finish_reason":"stop","message":{"role":"assistant","content":['
    f'{{"type":"image","image":"{BJ}/x.png?Expires=1"}}]}}}}]}},'
    '"usage":{"image_count":1,"size":"2976*1408","input_tokens":11015,"output_tokens":2,'
    '"total_tokens":11017}}'
)


def test_wan_2_7_succeeded_3_6() -> None:
    assert answered(WAN_27) == TaskAnswer(
        "SUCCEEDED",
        request_id="810f…",
        images=(f"{BJ}/x.png?Expires=1",),
        reading=(1,),
        usage={
            "image_count": 1,
            "size": "2976*1408",
            "input_tokens": 11015,
            "output_tokens": 2,
            "total_tokens": 11017,
        },
        submitted_at=datetime(2026, 3, 26, 9, 16, 1, 663_000, tzinfo=UTC).timestamp(),
        scheduled_at=datetime(2026, 3, 26, 9, 16, 1, 716_000, tzinfo=UTC).timestamp(),
        ended_at=datetime(2026, 3, 26, 9, 16, 22, 961_000, tzinfo=UTC).timestamp(),
    )
    assert answered(WAN_27).output_size == (2976, 1408)


def test_wan_2_7_called_synchronously_lacks_the_task_fields_only_3_6() -> None:
    body: Any = json.loads(WAN_27)
    for name in ("task_id", "task_status", "submit_time", "scheduled_time", "end_time"):
        del body["output"][name]
    timeless = replace(answered(WAN_27), submitted_at=None, scheduled_at=None, ended_at=None)
    assert task_answer(body, synchronous=True) == timeless


def test_a_sequence_is_one_choice_with_four_images_3_6() -> None:
    items = ",".join(f'{{"type":"image","image":"{BJ}/{n}.png"}}' for n in range(4))
    answer = answered(
        '{"output":{"task_status":"SUCCEEDED","choices":[{"message":{"content":['
        + items
        + ']}}]},"usage":{"image_count":4,"size":"2048*2048","input_tokens":720,'
        '"output_tokens":11,"total_tokens":731}}'
    )
    assert answer.images == tuple(f"{BJ}/{n}.png" for n in range(4))
    assert answer.billed_images == 4


def test_some_images_failed_4_3() -> None:
    answer = answered(
        '{"request_id":"85ea…","output":{"task_id":"86ec…","task_status":"SUCCEEDED",'
        f'"results":[{{"url":"{BJ}/123/a1.png"}},'
        f'{{"code":"InternalError.Timeout","message":"{TIMEOUT}"}}],'
        '"task_metrics":{"TOTAL":2,"SUCCEEDED":1,"FAILED":1}},"usage":{"image_count":1}}'
    )
    assert answer.status == "SUCCEEDED"
    assert answer.images == (f"{BJ}/123/a1.png",)
    assert answer.image_failures == (Failure(code="InternalError.Timeout", message=TIMEOUT),)
    assert answer.failure is None
    assert answer.billed_images == 1


def test_failed_with_the_error_inside_the_output_4_4() -> None:
    answer = answered(
        '{"request_id":"e5d7…","output":{"task_id":"86ec…","task_status":"FAILED",'
        '"code":"InvalidParameter","message":"Field required: input.prompt",'
        '"task_metrics":{"TOTAL":4,"SUCCEEDED":0,"FAILED":4}}}'
    )
    assert answer.status == "FAILED"
    assert answer.failure == Failure(
        code="InvalidParameter", message="Field required: input.prompt", request_id="e5d7…"
    )
    assert answer.images == ()
    assert answer.usage is None
    assert answer.billed_images == 0


def test_an_error_at_the_top_of_an_answer_with_any_other_status_says_nothing_4_4() -> None:
    answer = answered('{"request_id":"a4d7…","code":"Throttling","message":"later"}')
    assert not answer.terminal


def test_failed_with_the_error_at_the_top_of_a_permanent_4xx_4_4() -> None:
    answer = answered(
        '{"request_id":"a4d7…","code":"InvalidParameter",'
        '"message":"num_images_per_prompt must be 1"}',
        refused=True,
    )
    assert answer.status == "FAILED"
    assert answer.terminal
    assert answer.failure == Failure(
        code="InvalidParameter", message="num_images_per_prompt must be 1", request_id="a4d7…"
    )


def test_the_error_inside_the_output_is_read_before_the_one_at_the_top() -> None:
    failure = failure_in(
        read('{"code":"Outer","message":"o","output":{"code":"Inner","message":"i"}}')
    )
    assert failure == Failure(code="Inner", message="i")


def test_what_the_sdk_stores_is_read_too_4_7() -> None:
    answer = answered(
        '{"status_code":200,"request_id":"r","code":null,"message":"","output":{"task_id":"t",'
        '"task_status":"FAILED","code":"DataInspectionFailed","message":"m","results":[],'
        '"choices":null},"usage":null}'
    )
    assert answer.status == "FAILED"
    assert answer.failure == Failure(code="DataInspectionFailed", message="m", request_id="r")


# --- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "terminal"),
    [
        ("PENDING", False),
        ("RUNNING", False),
        ("SUCCEEDED", True),
        ("FAILED", True),
        ("CANCELED", True),
        ("UNKNOWN", True),
        ("SUSPENDED", False),
        ("CANCELLED", False),
        ("succeeded", False),
        ("A_STATE_NEVER_SEEN", False),
    ],
)
def test_only_the_four_documented_ends_are_terminal(status: str, terminal: bool) -> None:
    answer = task_answer({"output": {"task_status": status}})
    assert answer.status == status
    assert answer.terminal is terminal


@pytest.mark.parametrize(
    "text",
    ["{}", '{"output":{}}', '{"output":null}', '{"output":[]}', '{"output":{"task_status":7}}',
     '{"request_id":"r"}'],
)  # fmt: skip
def test_an_answer_without_a_state_and_without_an_error_ends_nothing(text: str) -> None:
    answer = answered(text)
    assert not answer.terminal
    assert answer.failure is None


def test_a_synchronous_answer_without_an_image_is_a_failure() -> None:
    assert answered('{"output":{"choices":[]}}', synchronous=True).status == "FAILED"
    assert answered("{}", synchronous=True).status == "FAILED"


# --- odd shapes ------------------------------------------------------------------------------------


def test_images_are_taken_whatever_type_says() -> None:
    answer = answered(
        '{"output":{"task_status":"SUCCEEDED","choices":[{"message":{"content":['
        '{"type":"text","image":"https://a"},{"type":"hologram","text":"t"},{"image":"","text":"u"},'
        '{"image":null},{"video":"https://b"},"loose",null,7,[]]}}]}}'
    )
    assert answer.images == ("https://a",)
    assert answer.texts == ("t", "u")


def test_both_protocols_in_one_answer_are_both_read() -> None:
    answer = answered(
        '{"output":{"task_status":"SUCCEEDED","results":[{"url":"https://b"}],'
        '"choices":[{"message":{"content":[{"image":"https://a"}]}}]}}'
    )
    assert answer.images == ("https://a", "https://b")


@pytest.mark.parametrize(
    "output",
    [
        '{"choices":{}}',
        '{"choices":[null,7,"x",[],{},{"message":null},{"message":[]},{"message":{}}]}',
        '{"choices":[{"message":{"content":"a text"}}]}',
        '{"results":{"url":"https://a"}}',
        '{"results":[null,7,"https://a",[],{},{"url":""},{"url":7},{"code":""},{"code":null}]}',
    ],
)
def test_what_has_another_shape_reads_as_absent(output: str) -> None:
    answer = answered(f'{{"output":{output}}}')
    assert (answer.images, answer.texts, answer.image_failures) == ((), (), ())


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        ('{"image_count":3}', 3),
        ('{"image_count":0}', 0),
        ('{"image_count":"3"}', 1),
        ('{"image_count":true}', 1),
        ('{"image_count":-1}', 1),
        ('{"image_count":1.5}', 1),
        ("{}", 1),
        ("null", 1),
        ("[]", 1),
        ("7", 1),
    ],
)
def test_the_bill_is_what_the_provider_counts_or_else_the_images_it_gave(
    usage: str, billed: int
) -> None:
    answer = answered(
        '{"output":{"task_status":"SUCCEEDED","results":[{"url":"https://a"}]},'
        f'"usage":{usage}}}'
    )
    assert answer.billed_images == billed


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "<html><body><h1>502 Bad Gateway</h1></body></html>",
        '{"output":{"task_status":"SUCC',
        "[]",
        "null",
        '"SUCCEEDED"',
        "7",
        "upstream connect error",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"n":1' + "0" * 5000 + "}",
        '{"n":NaN}',
        '{"n":[Infinity]}',
        '{"output":{"task_status":"SUCCEEDED"},"n":-Infinity}',
        '\ufeff{"a":1}',
    ],
)
def test_what_is_no_json_object_is_nothing(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "text",
    ["{}", '{"output":{}}', '{"output":{"task_id":""}}', '{"output":{"task_id":7}}',
     '{"task_id":"x"}', '{"output":null}', '{"code":"X","output":"x"}'],
)  # fmt: skip
def test_without_a_task_id_in_the_output_no_task_is_known(text: str) -> None:
    assert created_task(read(text)) is None


@pytest.mark.parametrize("text", ["{}", '{"code":""}', '{"code":null,"output":{"code":7}}'])
def test_without_a_code_there_is_no_failure(text: str) -> None:
    assert failure_in(read(text)) is None


def test_a_failure_without_words_has_an_empty_message() -> None:
    assert failure_in({"code": "X", "message": None, "request_id": 7}) == Failure(
        code="X", message=""
    )


# --- what is kept of an answer ---------------------------------------------------------------------


def results(*entries: dict[str, Any], **more: Any) -> TaskAnswer:
    return task_answer({"output": {"results": list(entries)}, **more})


@pytest.mark.parametrize(
    ("entry", "prompts", "rewritten"),
    [
        ({"orig_prompt": "a", "actual_prompt": "b"}, (RewrittenPrompt("a", "b"),), ("b",)),
        ({"orig_prompt": "a"}, (RewrittenPrompt("a", None),), ()),
        ({"actual_prompt": "b"}, (RewrittenPrompt(None, "b"),), ("b",)),
        ({"orig_prompt": "", "actual_prompt": None}, (), ()),
        ({"orig_prompt": 7, "actual_prompt": ["b"]}, (), ()),
        ({}, (), ()),
    ],
)
def test_prompts_are_kept_as_they_came(
    entry: dict[str, Any], prompts: tuple[RewrittenPrompt, ...], rewritten: tuple[str, ...]
) -> None:
    answer = results({"url": "https://a", **entry}, {"code": "X", "orig_prompt": "of no image"})
    assert answer.prompts == prompts
    assert answer.rewritten_prompts == rewritten


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1970-01-01 08:00:01.500", 1.5),
        ("1970-01-01 08:00:01", 1.0),
        ("1970-01-01 08:00:01.123456", 1.123456),
        ("2026-02-21 17:56:31.786", SUBMITTED),
        ("2026-02-21T17:56:31.786Z", None),
        ("2026-02-30 17:56:31.786", None),
        ("2026-02-21", None),
        ("", None),
        ("soon", None),
        ("\ud800", None),
        ("2026-02-21 17:56:31." + "7" * 1000, None),
        (None, None),
        (1771667791786, None),
        (True, None),
        ([], None),
    ],
)
def test_times_are_in_utc8_2_3(written: Json, expected: float | None) -> None:
    answer = task_answer(
        {"output": {"submit_time": written, "scheduled_time": written, "end_time": written}}
    )
    assert (answer.submitted_at, answer.scheduled_at, answer.ended_at) == (expected,) * 3


@pytest.mark.parametrize(
    ("usage", "size"),
    [
        ({"size": "1376*768"}, (1376, 768)),
        ({"width": 1024, "height": 1536}, (1024, 1536)),
        ({"size": "1376*768", "width": 1, "height": 2}, (1376, 768)),
        ({"size": "large", "width": 1, "height": 2}, (1, 2)),
        ({"size": "0*0"}, None),
        ({"size": "0*768"}, None),
        ({"size": "1376x768"}, None),
        ({"size": "-1*5"}, None),
        ({"size": "1376*768 "}, None),
        ({"size": "9999999*1"}, None),
        ({"size": "\u0661*\u0662"}, None),
        ({"size": 7}, None),
        ({"width": 1024}, None),
        ({"width": 0, "height": 5}, None),
        ({"width": -1, "height": 5}, None),
        ({"width": True, "height": True}, None),
        ({"width": 1.5, "height": 2.5}, None),
        ({"width": "1", "height": "2"}, None),
        ({}, None),
    ],
)
def test_the_size_is_read_from_either_layout_4_5(
    usage: dict[str, Json], size: tuple[int, int] | None
) -> None:
    assert task_answer({"usage": usage}).output_size == size


def test_a_usage_of_none_has_no_size() -> None:
    assert task_answer({}).output_size is None


@pytest.mark.parametrize(
    "value",
    [
        None, [], {}, [1], {"a": 1}, "x" * 201, 10**15, -(10**15), 10**400, 1e300, -1e300, 1e-300,
        float("nan"), float("inf"), float("-inf"),
    ],
    ids=lambda v: str(v)[:12],
)  # fmt: skip
def test_of_the_usage_only_what_a_store_can_hold_is_kept(value: Json) -> None:
    answer = task_answer({"usage": {"odd": value, "image_count": 2}})
    assert answer.usage == {"image_count": 2}


@pytest.mark.parametrize("value", [0, 1, -5, 10**15 - 1, 0.0, 0.25, True, False, "", "x" * 200])
def test_ordinary_scalars_of_the_usage_are_kept(value: Json) -> None:
    kept = (task_answer({"usage": {"v": value}}).usage or {})["v"]
    assert kept == value
    assert type(kept) is type(value)


def test_the_usage_is_bounded() -> None:
    many: dict[str, Json] = {f"k{n}": n for n in range(500)}
    assert task_answer({"usage": many}).usage == {f"k{n}": n for n in range(50)}
    keys: dict[str, Json] = {"x" * 101: 1, "": 2, "x" * 100: 3}
    assert task_answer({"usage": keys}).usage == {"x" * 100: 3}
    odd: dict[str, Json] = {"a\ud800": "b\udfff"}
    assert task_answer({"usage": odd}).usage == {"a?": "b?"}


def test_a_count_beyond_belief_is_not_counted() -> None:
    answer = task_answer(
        {"usage": {"image_count": 10**300}, "output": {"results": [{"url": "https://a"}]}}
    )
    assert answer.billed_images == 1


def test_strings_are_bounded() -> None:
    long = "x" * 100_000
    answer = task_answer(
        {
            "request_id": long,
            "output": {
                "task_status": long,
                "code": long,
                "message": long,
                "choices": [{"message": {"content": [{"text": long}]}}],
                "results": [
                    {"url": "https://a", "orig_prompt": long, "actual_prompt": long},
                    {"code": long, "message": long},
                ],
            },
        }
    )
    assert len(answer.status) == CODE_CHARS == 200
    assert len(answer.request_id or "") == CODE_CHARS
    assert [len(text) for text in answer.texts] == [TEXT_CHARS] == [20_000]
    assert [len(text) for text in answer.rewritten_prompts] == [TEXT_CHARS]
    assert [len(prompt.original or "") for prompt in answer.prompts] == [TEXT_CHARS]
    assert answer.failure is not None
    for failure in (answer.failure, *answer.image_failures):
        assert (len(failure.code), len(failure.message)) == (CODE_CHARS, MESSAGE_CHARS)
    assert len(answer.failure.request_id or "") == CODE_CHARS


def test_what_utf8_cannot_hold_is_mended() -> None:
    odd = "a\ud800b"
    answer = task_answer(
        {
            "request_id": odd,
            "output": {
                "task_status": odd,
                "code": odd,
                "message": odd,
                "choices": [{"message": {"content": [{"text": odd}]}}],
                "results": [{"url": "https://a", "actual_prompt": odd}],
            },
        }
    )
    assert answer.status == answer.request_id == "a?b"
    assert answer.texts == answer.rewritten_prompts == ("a?b",)
    assert answer.failure == Failure(code="a?b", message="a?b", request_id="a?b")


def test_urls_are_kept_as_they_are_or_not_at_all() -> None:
    good = "https://a/" + "x" * (URL_CHARS - 10)
    answer = results({"url": good}, {"url": good + "x"}, {"url": "https://a/\ud800"})
    assert URL_CHARS == 8192
    assert answer.images == (good, "https://a/\ud800")


def test_more_images_than_any_model_makes_are_cut() -> None:
    many = [{"url": f"https://a/{n}", "orig_prompt": "p", "actual_prompt": "q"} for n in range(99)]
    failed = [{"code": "X"} for _ in range(99)]
    answer = results(*many, *failed)
    assert answer.images == tuple(f"https://a/{n}" for n in range(MOST_IMAGES))
    assert len(answer.prompts) == len(answer.rewritten_prompts) == MOST_IMAGES == 24
    assert len(answer.image_failures) == MOST_IMAGES


def test_a_task_id_is_used_as_it_is_or_not_at_all() -> None:
    assert created_task({"output": {"task_id": "x" * 200}}) == "x" * 200
    assert created_task({"output": {"task_id": "x" * 201}}) is None
    assert created_task({"output": {"task_id": "a\ud800"}}) is None


# --- signatures in messages ------------------------------------------------------------------------

SIGNED = "https://h.example/a.png?Expires=1&OSSAccessKeyId=LTAI&Signature=s3cret%2B"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (SIGNED, "https://h.example/a.png"),
        (f"cannot read {SIGNED} at all", "cannot read https://h.example/a.png at all"),
        (f"{SIGNED} {SIGNED}", "https://h.example/a.png https://h.example/a.png"),
        (f"{SIGNED}\n{SIGNED}\tx", "https://h.example/a.png\nhttps://h.example/a.png\tx"),
        (f"https://b.example/b.png {SIGNED}", "https://b.example/b.png https://h.example/a.png"),
        (f'url "{SIGNED}" broke', 'url "https://h.example/a.png" broke'),
        (f"url '{SIGNED}' broke", "url 'https://h.example/a.png' broke"),
        (f"['{SIGNED}', '{SIGNED}']", "['https://h.example/a.png', 'https://h.example/a.png']"),
        (f'{{"url":"{SIGNED}","n":1}}', '{"url":"https://h.example/a.png","n":1}'),
        (f"<{SIGNED}> broke", "<https://h.example/a.png> broke"),
        (f"({SIGNED}", "(https://h.example/a.png"),
        (f"url '{SIGNED}", "url 'https://h.example/a.png"),
        (f'url "{SIGNED}', 'url "https://h.example/a.png'),
        (SIGNED.upper(), "HTTPS://H.EXAMPLE/A.PNG"),
        (SIGNED.replace("https", "HttP"), "HttP://h.example/a.png"),
        (SIGNED.replace("?", "#"), "https://h.example/a.png"),
        (SIGNED.replace("?", "#a?"), "https://h.example/a.png"),
        (SIGNED + "#s3cret", "https://h.example/a.png"),
        (SIGNED + "?s3cret", "https://h.example/a.png"),
        ("https://h.example?Signature=s3cret", "https://h.example"),
        ("https://h.example:8443/?Signature=s3cret", "https://h.example:8443/"),
        ("https://h.example/кот.png?Signature=s3cret", "https://h.example/кот.png"),
        ("no url? none # here", "no url? none # here"),
        ("what is https://h.example/a.png ?", "what is https://h.example/a.png ?"),
        ("https://h.example/a.png", "https://h.example/a.png"),
    ],
)
def test_a_message_loses_what_signs_the_urls_in_it(said: str, kept: str) -> None:
    failure = failure_in({"code": "InvalidURL", "message": said, "request_id": "r"})
    assert failure == Failure(code="InvalidURL", message=kept, request_id="r")
    inside = failure_in({"output": {"code": "InvalidURL", "message": said}})
    assert inside == Failure(code="InvalidURL", message=kept)
    assert results({"code": "InvalidURL", "message": said}).image_failures == (inside,)


@pytest.mark.parametrize("separator", [",", ";", ", ", "|", "&url="])
def test_urls_that_are_joined_lose_all_their_signatures(separator: str) -> None:
    failure = failure_in({"code": "X", "message": separator.join([SIGNED] * 3)})
    assert failure is not None
    assert failure.message.startswith("https://h.example/a.png")
    for secret in ("s3cret", "LTAI", "Signature"):
        assert secret not in failure.message


@pytest.mark.parametrize("before", range(MESSAGE_CHARS - len(SIGNED) - 1, MESSAGE_CHARS + 1))
def test_a_url_that_the_end_of_a_message_cuts_loses_its_signature_too(before: int) -> None:
    failure = failure_in({"code": "X", "message": "x" * before + SIGNED})
    assert failure is not None
    assert len(failure.message) <= MESSAGE_CHARS
    assert "?" not in failure.message
    assert (failure.message + "https://h.example/a.png").startswith("x" * before)


# --- what a store is given -------------------------------------------------------------------------

MOST = 300 * 1024


def synchronous(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"output": {"choices": [{"message": {"content": list(items)}}]}, **more}


def stored_bytes(body: str) -> int:
    return len(json.dumps(body))


@pytest.mark.parametrize("most", [200, 1000, MOST])
@pytest.mark.parametrize("filler", ['"', "\\", "é", "🐇", "x", "\n", "\x00", "\ud800"])
def test_a_body_is_kept_as_it_is_up_to_the_bytes_that_it_has_as_stored(
    filler: str, most: int
) -> None:
    body = filler * ((most - 2) // (stored_bytes(filler) - 2))
    assert most - 12 < stored_bytes(body) <= most
    assert storable(body, most) == body
    assert storable(body + filler, most) != body + filler


def test_a_body_of_quotation_marks_is_measured_with_what_escapes_them() -> None:
    text = '"' * 60_000
    body = json.dumps(synchronous({"text": text}, {"image": f"{BJ}/1.png"}), ensure_ascii=False)
    assert len(body.encode()) < MOST - 150_000 < MOST
    assert storable(body, MOST) == body
    text = '"' * 90_000
    body = json.dumps(synchronous({"text": text}, {"image": f"{BJ}/1.png"}), ensure_ascii=False)
    assert len(body.encode()) < MOST < stored_bytes(body)
    kept = storable(body, MOST)
    assert stored_bytes(kept) <= MOST
    assert answered(kept, synchronous=True).texts == ('"' * 1000,)
    assert answered(kept, synchronous=True).images == (f"{BJ}/1.png",)


def test_of_an_answer_too_large_all_that_is_read_is_kept_and_texts_are_cut() -> None:
    urls = [f"{BJ}/{n}.png?Signature={'x' * 500}" for n in range(MOST_IMAGES)]
    items = [item for url in urls for item in ({"text": "é" * 15_000}, {"image": url})]
    body = json.dumps(
        synchronous(*items, usage={"image_count": 24, "size": "1*2"}, request_id="r", extra="x")
        | {"code": "StreamInterrupted", "message": "the stream broke off"}
    )
    kept = storable(body, MOST)
    assert stored_bytes(kept) <= MOST < stored_bytes(body)
    assert answered(kept, synchronous=True) == replace(
        answered(body, synchronous=True),
        texts=("é" * 1000,) * MOST_IMAGES,
        reading=tuple(part for n in range(MOST_IMAGES) for part in ("é" * 1000, n + 1)),
    )


@pytest.mark.parametrize("filler", ['"', "\\", "é", "土", "🐇", "\n", "\x00"])
def test_the_most_that_is_read_of_an_answer_can_be_stored(filler: str) -> None:
    url = f"{BJ}/1.png?Signature=".ljust(URL_CHARS, "x")
    items = [{"text": filler * TEXT_CHARS}, {"image": url}] * (2 * MOST_IMAGES)
    kept = storable(json.dumps(synchronous(*items)), MOST)
    document = Answer(job_id="j", body=kept, expires_at=1).model_dump_json()
    assert len(document.encode()) < 400_000  # DynamoDB takes 400 KiB
    assert answered(kept, synchronous=True).images == (url,) * MOST_IMAGES


def test_an_answer_too_large_can_be_stored_though_utf8_cannot_hold_a_url_of_it() -> None:
    body = json.dumps(
        synchronous({"text": "x" * MOST}, {"image": "https://a/\ud800"}, {"image": f"{BJ}/1.png"})
    )
    kept = storable(body, MOST)
    document = Answer(job_id="j", body=kept, expires_at=1).model_dump_json()
    assert f"{BJ}/1.png" in document


# --- the list --------------------------------------------------------------------------------------


def test_a_page_of_the_list_2_5() -> None:
    page = task_page(
        read(
            '{"total":1,"total_page":1,"page_no":1,"page_size":10,"request_id":"f675…",'
            '"data":[{"task_id":"3c77…","status":"SUCCEEDED","model_name":"wan2.5-i2i-preview",'
            '"region":"cn-beijing","request_id":"f6bf…","api_key_id":"15xxxx",'
            '"caller_parent_id":"1…","caller_uid":"1…","gmt_create":1745568293253,'
            '"start_time":1745568293273,"end_time":1745568302481,"user_api_unique_key":"apikey"}]}'
        )
    )
    assert page is not None
    assert (page.rows, page.size, page.pages) == (1, 10, 1)
    assert page.tasks == (
        ListedTask(
            "3c77…",
            status="SUCCEEDED",
            model="wan2.5-i2i-preview",
            request_id="f6bf…",
            created_at=1745568293.253,
            started_at=1745568293.273,
            ended_at=1745568302.481,
        ),
    )


# --- anything --------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=5)  # surrogates too
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
    | st.sampled_from(["1*2", "0*0", "2026-02-21 17:56:31.786", "stop", 10**400, "x" * 300]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["output", "choices", "message", "content", "image", "text", "results", "url",
                 "code", "actual_prompt", "orig_prompt", "task_status", "task_id", "usage",
                 "image_count", "size", "width", "height", "submit_time", "end_time", "message",
                 "data", "gmt_create", "finish_reason"]
            ) | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    body=st.dictionaries(
        st.sampled_from(["output", "usage", "code", "message", "request_id", "data", "extra"]),
        JSON_VALUES,
    ),
    synchronous=st.booleans(),
    refused=st.booleans(),
)
@example(body={"code": "\ud800", "message": "\udfff"}, synchronous=False, refused=True)
def test_any_json_object_is_read_without_surprise(
    body: dict[str, Json], synchronous: bool, refused: bool
) -> None:
    answer = task_answer(body, synchronous=synchronous, refused=refused)
    assert answer.status
    assert all(answer.images)
    assert answer.billed_images >= 0
    assert answer.output_size is None or min(answer.output_size) > 0
    assert created_task(body) is None or isinstance(created_task(body), str)
    page = task_page(body)
    assert page is None or page.rows >= len(page.tasks)
    kept = replace(answer, images=())
    json.dumps(repr(kept), ensure_ascii=False).encode("utf-8")
    json.dumps(kept.usage, allow_nan=False, ensure_ascii=False).encode("utf-8")


@settings(max_examples=500, deadline=None)
@given(
    st.text(st.characters(codec=None, exclude_categories=()), max_size=200)
    | st.text(st.sampled_from('{}[]":,\\ue019.-NaInfty d'), max_size=60)
    | JSON_VALUES.map(lambda value: json.dumps({"output": value, "usage": value}))
)
def test_any_text_is_an_object_or_nothing_and_never_an_error(text: str) -> None:
    body = parse(text)
    if body is not None:
        assert task_answer(body).status
        assert failure_in(body) is None or failure_in(body)
