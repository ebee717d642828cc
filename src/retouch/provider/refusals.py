"""The provider's errors, mapped onto the tree of `retouch.errors` (contract 5.2). Pure.

The HTTP status decides first, then the code; messages decide only where the contract says that the
code alone is ambiguous.
"""

from __future__ import annotations

from typing import Final

from retouch.errors import (
    AccountRefused,
    InputNotFetched,
    OutcomeUnknown,
    ProviderRefused,
    TryLater,
)

_BILLING: Final = frozenset(
    {
        "Arrearage",
        "isv.OUT_OF_SERVICE",
        "CommodityNotPurchased",
        "PrepaidBillOverdue",
        "PostpaidBillOverdue",
    }
)
_QUOTA: Final = frozenset({"Throttling.AllocationQuota", "insufficient_quota"})
_ACCOUNT_404: Final = frozenset({"WorkSpaceNotFound"})
_NOT_FETCHED: Final = frozenset(
    {"BadRequest.InputDownloadFailed", "InvalidURL.ConnectionRefused", "InvalidURL.Timeout"}
)
_NOT_FETCHED_SAID: Final = (  # with `InvalidParameter`, which says nothing by itself
    "image download failed",
    "failed to download multimodal content",
    "download the media resource timed out",
    "unable to download",
)


def refusal(
    status: int, code: str, message: str, request_id: str | None, *, bills: bool
) -> ProviderRefused | AccountRefused | TryLater | OutcomeUnknown:
    """The error for an answer with an HTTP status of 400 or more.

    `bills` says whether the call can bill: then a 5xx means that nobody knows whether a task was
    made, because no document promises that an error answer made none. An image that the provider
    could not download is `InputNotFetched`.
    """
    unsure = status == 408 or status >= 500
    said = f"HTTP {status} {code}: {message}"
    if unsure and bills:
        return OutcomeUnknown(said, code=code)
    if code in _BILLING or status == 401:
        return AccountRefused(code, message, request_id)
    if unsure:
        return TryLater(said, code=code, request_id=request_id)
    match status:
        case 429:
            # Of the two quotas by one name, the rate recovers within a minute, the free tier never.
            if code in _QUOTA and message.startswith("Free allocated quota"):
                return AccountRefused(code, message, request_id)
            return TryLater(message, code=code, request_id=request_id)
        case 403:
            if (
                "synchronous calls" in message
            ):  # a programming error: the async header (contract 1.3)
                return ProviderRefused(code, message, request_id)
            if "Policy expired" in message:
                return TryLater(message, code=code, request_id=request_id)
            return AccountRefused(code, message, request_id)
        case 404 if code in _ACCOUNT_404:
            return AccountRefused(code, message, request_id)
        case 400 if code == "Throttling.AllocationQuota":
            return AccountRefused(code, message, request_id)
        case 400 if not_fetched(code, message):
            return InputNotFetched(message, code=code, request_id=request_id)
    return ProviderRefused(code, message, request_id)


def not_fetched(code: str, message: str) -> bool:
    """Whether an error says that an image could not be downloaded (contract 5.2, class A)."""
    if code in _NOT_FETCHED:
        return True
    said = message.lower()
    return (code == "InvalidParameter" or code.startswith("InvalidParameter.")) and any(
        phrase in said for phrase in _NOT_FETCHED_SAID
    )
