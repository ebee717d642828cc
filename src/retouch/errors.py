"""What can go wrong, as one small tree. The class says who must act.

    RetouchError
    ├── DropError             the owner of a drop must mend it
    │   └── ProviderRefused   … found by the provider (content, parameters, images)
    ├── OperatorError         whoever runs the stack must mend it
    │   ├── SettingsError     … a setting is missing or impossible
    │   ├── ResultHostUnknown … results come from a host that is not on the list, or is not public
    │   └── AccountRefused    … the provider refuses the account (key, bill, activation)
    ├── TryLater              time will mend it; nothing was made, so it may be repeated
    │   ├── Conflict          … somebody else wrote first: read again, decide again
    │   └── InputNotFetched   … the provider could not fetch an image: once more, another way
    └── OutcomeUnknown        a billed call whose answer was lost; must not be repeated blindly

Every provider error keeps the provider's `code`, `message` and `request_id`, because those are what
its support asks for.
"""

from __future__ import annotations


class RetouchError(Exception):
    """Base of every error that retouch raises on purpose."""


class DropError(RetouchError):
    """The owner of a drop must mend something."""


class OperatorError(RetouchError):
    """Whoever runs the stack must mend something."""


class SettingsError(OperatorError):
    """A setting is missing or has an impossible value; the message names it."""


class ResultHostUnknown(OperatorError):
    """A result lies on a host that is not on the list, or leads into a private network; it is kept
    there for 24 h (contract 6.3).
    """

    code = "ResultHostNotAllowed"


NOT_SENT = "RequestNotSent"
"""The code of a `TryLater` for a call whose body did not get out in time: nobody can have read it."""
NOT_REACHED = "ProviderNotReached"
"""The code of a `TryLater` for a call that did not get as far as the provider."""


class TryLater(RetouchError):
    """Nothing was made and nothing was billed; the same request may be repeated later.

    `code` is the provider's, or a name of our own for failures below HTTP.
    """

    def __init__(self, message: str, *, code: str = "TryLater", request_id: str | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id


class Conflict(TryLater):
    """A condition of a write did not hold: somebody else wrote first."""

    def __init__(self, message: str):
        super().__init__(message, code="Conflict")


class InputNotFetched(TryLater):
    """The provider could not download an image (contract 5.2, class A); nothing was made.

    It may be repeated once, with the image brought in another way where there is one.
    """


class ProviderRefused(DropError):
    """The provider refuses this input for good (contract 5.2, class P)."""

    def __init__(self, code: str, message: str, request_id: str | None = None):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.request_id = request_id


class AccountRefused(OperatorError):
    """The provider refuses the account: key, bill, activation (contract 5.2, class C)."""

    def __init__(self, code: str, message: str, request_id: str | None = None):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.request_id = request_id


class OutcomeUnknown(RetouchError):
    """A call that bills was sent, and whether it took effect is not known (contract 5.1, 4)."""

    def __init__(self, message: str, *, code: str = "OutcomeUnknown"):
        super().__init__(message)
        self.code = code
        self.message = message
