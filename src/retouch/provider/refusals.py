"""The provider's errors, mapped onto the tree of `retouch.errors` (contract 5.2). Pure.

The HTTP status decides first, then the code; messages decide only where the contract says that the
code alone is ambiguous.
"""

from __future__ import annotations

from typing import Final

from retouch.errors import AccountRefused, OutcomeUnknown, ProviderRefused, TryLater

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


def refusal(
    status: int, code: str, message: str, request_id: str | None, *, bills: bool
) -> ProviderRefused | AccountRefused | TryLater | OutcomeUnknown:
    """The error for an answer with an HTTP status of 400 or more.

    `bills` says whether the call can bill: then a 5xx means that nobody knows whether a task was
    made, because no document promises that an error answer made none.
    """
    if code in _BILLING or status == 401:
        return AccountRefused(code, message, request_id)
    if status == 429:
        if code in _QUOTA and message.startswith("Free allocated quota"):
            return AccountRefused(code, message, request_id)
        return TryLater(message, code=code, request_id=request_id)
    if status == 408 or status >= 500:
        said = f"HTTP {status} {code}: {message}"
        if bills:
            return OutcomeUnknown(said, code=code)
        return TryLater(said, code=code, request_id=request_id)
    if status == 403:
        if "does not support" in message:  # a programming error: the async header (contract 1.3)
            return ProviderRefused(code, message, request_id)
        if "Policy expired" in message:
            return TryLater(message, code=code, request_id=request_id)
        return AccountRefused(code, message, request_id)
    if status == 404 and code in _ACCOUNT_404:
        return AccountRefused(code, message, request_id)
    if status == 400 and code == "Throttling.AllocationQuota":
        return AccountRefused(code, message, request_id)
    return ProviderRefused(code, message, request_id)
