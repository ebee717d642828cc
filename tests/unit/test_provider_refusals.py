"""The whole table of contract 5.2: whose turn it is to act, for calls that bill and calls that do not.

Classes: P the owner of the drop, C the operator, R time, A an image that the provider could not
download. Where the contract says P/C, the reading taken here is in the row.
"""

from __future__ import annotations

import pytest

from retouch.errors import (
    AccountRefused,
    InputNotFetched,
    OutcomeUnknown,
    ProviderRefused,
    TryLater,
)
from retouch.provider.refusals import refusal

P = ProviderRefused
C = AccountRefused
R = TryLater
A = InputNotFetched

BELOW_500: list[tuple[int, str, str, type[Exception]]] = [
    (400, "InvalidParameter", "Model not exist.", P),
    (400, "InvalidParameter", "Required parameter(prompt) missing or invalid", P),
    (400, "InvalidParameter", "Field required: input.prompt", P),
    (400, "InvalidParameter", "num_images_per_prompt must be 1", P),
    (400, "InvalidParameter", "the size of input image is too small or too large", P),
    (400, "InvalidParameter", "Image format error", P),
    (400, "InvalidParameter", "Invalid image format or corrupted file", P),
    (400, "InvalidParameter", "url error, please check url!", P),
    (400, "InvalidParameter", "Image download failed", A),
    (400, "InvalidParameter", "Failed to download multimodal content.", A),
    (
        400,
        "InvalidParameter",
        "Download the media resource timed out during the data inspection process.",
        A,
    ),
    (400, "InvalidParameter", "Exceeded limit on max bytes per data-uri item : 10485760", P),
    (400, "InvalidParameter", "Multimodal file size is too large", P),
    (400, "InvalidParameter", "The provided URL does not appear to be valid…", P),
    (
        400,
        "InvalidParameter",
        "The media format is not supported or incorrect for the data inspection.",
        P,
    ),
    (400, "InvalidParameter", "The image size is not supported for the data inspection.", P),
    (400, "InvalidParameter", "Wrong Content-Type of multimodal url", P),
    (
        400,
        "InvalidParameter.DataInspection",
        "Unable to download the media resource during the data inspection process.",
        A,
    ),
    (400, "InvalidParameter.DataInspection", "Something else about the image.", P),
    (400, "InternalError.Algo.InvalidParameter", "message content malformed", P),
    (400, "BadRequest.EmptyInput", "", P),
    (400, "BadRequest.EmptyParameters", "", P),
    (400, "BadRequest.EmptyModel", "", P),
    (400, "BadRequest.IllegalInput", "", P),
    (400, "BadRequest", "Required body invalid", P),
    (400, "BadRequest.InputDownloadFailed", "", A),
    (400, "InvalidURL", "", P),
    (400, "InvalidURL.ConnectionRefused", "", A),
    (400, "InvalidURL.Timeout", "", A),
    (400, "InvalidImage", "", P),
    (400, "InvalidImageResolution", "", P),
    (400, "InvalidImageFormat", "", P),
    (400, "InvalidFile.Format", "", P),
    (400, "InvalidFile.Resolution", "", P),
    (400, "UnsupportedOperation", "Failed to cancel the task, please confirm if the task is …", P),
    (400, "DataInspectionFailed", "Input data may contain inappropriate content.", P),
    (400, "DataInspectionFailed", "Output data may contain inappropriate content.", P),
    (400, "data_inspection_failed", "Input data may contain inappropriate content.", P),
    (400, "IPInfringementSuspect", "Input data is suspected of IP infringement.", P),
    (400, "FaqRuleBlocked", "", P),
    (400, "CustomRoleBlocked", "", P),
    (400, "Arrearage", "Access denied, your account is in arrears.", C),
    (400, "isv.OUT_OF_SERVICE", "", C),
    (400, "Throttling.AllocationQuota", "", C),
    (401, "InvalidApiKey", "Invalid API-key provided.", C),
    (401, "InvalidApiKey", "No API-key provided.", C),
    (401, "invalid_api_key", "Incorrect API key provided.", C),
    (401, "NOT AUTHORIZED", "", C),
    (401, "SomethingNew", "", C),
    (403, "AccessDenied", "current user api does not support synchronous calls.", P),
    (403, "AccessDenied", "Current user api does not support asynchronous calls.", P),
    (403, "AccessDenied", "Access denied.", C),
    (403, "Model.AccessDenied", "The workspace does not support this model.", C),
    (403, "AccessDenied", "Invalid according to Policy: Policy expired.", R),
    (403, "AccessDenied.Unpurchased", "", C),
    (403, "Model.AccessDenied", "", C),
    (403, "Workspace.AccessDenied", "", C),
    (403, "Endpoint.AccessDenied", "", C),
    (403, "App.AccessDenied", "", C),
    (403, "AllocationQuota.FreeTierOnly", "", C),
    (404, "ModelNotFound", "", P),
    (404, "model_not_found", "", P),
    (404, "WorkSpaceNotFound", "", C),
    (404, "NotFound", "", P),
    (413, "HTTP413", "", P),
    (429, "Throttling", "Requests throttling triggered.", R),
    (
        429,
        "Throttling.RateQuota",
        "Requests rate limit exceeded, please try again later.",
        R,
    ),
    (429, "LimitRequests", "", R),
    (429, "limit_requests", "", R),
    (429, "ResourceExhausted", "", R),
    (429, "Throttling.BurstRate", "Request rate increased too quickly.", R),
    (429, "limit_burst_rate", "", R),
    (429, "Throttling.Concurrency", "", R),
    (429, "Throttling.AllocationQuota", "Allocated quota exceeded, please increase your quota.", R),
    (429, "insufficient_quota", "Allocated quota exceeded, please increase your quota.", R),
    (429, "Throttling.AllocationQuota", "Free allocated quota exceeded.", C),
    (429, "insufficient_quota", "Free allocated quota exceeded.", C),
    (429, "CommodityNotPurchased", "Commodity has not purchased yet.", C),
    (429, "PrepaidBillOverdue", "The prepaid bill is overdue.", C),
    (429, "PostpaidBillOverdue", "The postpaid bill is overdue.", C),
    (429, "HTTP429", "an answer that is not the provider's JSON", R),
]
FROM_500: list[tuple[int, str, str]] = [
    (500, "InternalError", ""),
    (500, "InternalError.Algo", "No backend server available"),
    (500, "InternalError.Algo", "Missing Content-Length of multimodal url."),
    (500, "InternalError.Timeout", "An internal timeout error has occured during execution"),
    (500, "InternalError.FileUpload", ""),
    (500, "InternalError.Upload", ""),
    (500, "SystemError", ""),
    (500, "ModelServiceFailed", ""),
    (500, "ResponseTimeout", ""),
    (500, "RewriteFailed", ""),
    (500, "RequestTimeOut", "Request timed out, please try again later."),
    (500, "ServiceUnavailable", ""),
    (503, "ServiceUnavailable", ""),
    (503, "ModelUnavailable", ""),
    (502, "HTTP502", "an answer that is not the provider's JSON"),
    (504, "GatewayTimeout", ""),
]


@pytest.mark.parametrize("bills", [True, False], ids=["bills", "does not bill"])
@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [pytest.param(*row, id=f"{row[0]} {row[1]} {row[2][:40]}".strip()) for row in BELOW_500],
)
def test_a_refusal_below_500_tells_who_must_act_and_that_nothing_was_made(
    status: int, code: str, message: str, expected: type[Exception], bills: bool
) -> None:
    error = refusal(status, code, message, "req-1", bills=bills)
    assert type(error) is expected


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [pytest.param(*row, id=f"{row[0]} {row[1]} {row[2][:20]}".strip()) for row in FROM_500],
)
def test_from_500_on_a_call_that_bills_may_have_made_a_task_and_others_are_repeated(
    status: int, code: str, message: str
) -> None:
    assert isinstance(refusal(status, code, message, None, bills=True), OutcomeUnknown)
    assert isinstance(refusal(status, code, message, None, bills=False), TryLater)


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (429, "InvalidURL.Timeout", "", R),
        (403, "InvalidParameter", "Image download failed", C),
        (404, "BadRequest.InputDownloadFailed", "", P),
        (400, "InvalidImage", "Image download failed", P),
        (400, "InvalidParameters", "Image download failed", P),
        (400, "InvalidParameter", "IMAGE DOWNLOAD FAILED.", A),
        (400, "InvalidParameter.Url", "Failed to download multimodal content", A),
    ],
)
def test_that_an_image_was_not_downloaded_is_told_by_status_then_code_then_message(
    status: int, code: str, message: str, expected: type[Exception]
) -> None:
    error = refusal(status, code, message, "req-1", bills=True)
    assert type(error) is expected
    assert isinstance(error, AccountRefused | ProviderRefused | TryLater)
    assert (error.code, error.message, error.request_id) == (code, message, "req-1")


def test_an_image_that_was_not_downloaded_on_a_5xx_may_have_been_billed_all_the_same() -> None:
    assert isinstance(refusal(500, "InvalidURL.Timeout", "", None, bills=True), OutcomeUnknown)


def test_a_request_timeout_of_the_server_is_treated_like_a_5xx() -> None:
    assert isinstance(refusal(408, "RequestTimeout", "", None, bills=True), OutcomeUnknown)
    assert isinstance(refusal(408, "RequestTimeout", "", None, bills=False), TryLater)


@pytest.mark.parametrize("status", [400, 402, 405, 406, 409, 410, 415, 422, 451])
def test_a_code_never_seen_before_is_permanent_for_this_input(status: int) -> None:
    assert isinstance(refusal(status, "SomethingNew", "x", None, bills=True), ProviderRefused)


@pytest.mark.parametrize("status", [501, 505, 520, 599])
def test_a_status_never_seen_before_from_500_on_leaves_the_outcome_open(status: int) -> None:
    assert isinstance(refusal(status, "SomethingNew", "x", None, bills=True), OutcomeUnknown)


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_an_overdue_bill_is_for_the_operator_whatever_the_status(status: int) -> None:
    assert isinstance(refusal(status, "Arrearage", "x", None, bills=False), AccountRefused)


def test_an_overdue_bill_on_a_5xx_leaves_open_whether_a_call_that_bills_made_a_task() -> None:
    assert isinstance(refusal(500, "Arrearage", "x", None, bills=True), OutcomeUnknown)


@pytest.mark.parametrize(("status", "code"), [(400, "InvalidParameter"), (401, "InvalidApiKey")])
def test_code_message_and_request_id_are_kept_for_the_providers_support(
    status: int, code: str
) -> None:
    error = refusal(status, code, "what it said", "req-7", bills=True)
    assert isinstance(error, ProviderRefused | AccountRefused)
    assert (error.code, error.message, error.request_id) == (code, "what it said", "req-7")
    assert str(error) == f"{code}: what it said"


def test_a_throttle_keeps_them_too() -> None:
    error = refusal(429, "Throttling", "slow down", "req-8", bills=True)
    assert isinstance(error, TryLater)
    assert (error.code, error.message, error.request_id) == ("Throttling", "slow down", "req-8")


def test_an_open_outcome_keeps_the_code_and_says_the_status() -> None:
    error = refusal(502, "BadGateway", "upstream", "req-9", bills=True)
    assert isinstance(error, OutcomeUnknown)
    assert error.code == "BadGateway"
    assert "502" in error.message
