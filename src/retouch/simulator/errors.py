"""The provider's refusals, with the documented HTTP status, code and message of each.

`ProviderError` is the only exception that the simulator turns into an answer. Messages that the
documents quote are reproduced word for word; the rest name the field and what is allowed.
"""

from __future__ import annotations


class ProviderError(Exception):
    """A refusal as the provider words it: HTTP `status`, `code` and `message`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


def invalid(message: str) -> ProviderError:
    """A request that breaks a rule of its model."""
    return ProviderError(400, "InvalidParameter", message)


def field_required(path: str) -> ProviderError:
    """A required field that is absent."""
    return invalid(f"Field required: {path}")


def url_error() -> ProviderError:
    """A known model called at an endpoint that does not serve it."""
    return invalid("url error, please check url!")


def model_not_exist() -> ProviderError:
    """A model name nobody knows, or that this region does not have."""
    return invalid("Model not exist.")


def bad_body() -> ProviderError:
    """A body that is not a JSON object."""
    return ProviderError(
        400,
        "BadRequest.IllegalInput",
        "Required body invalid, please check the request body format.",
    )


def no_api_key() -> ProviderError:
    """A request without a key."""
    return ProviderError(401, "InvalidApiKey", "No API-key provided.")


def invalid_api_key() -> ProviderError:
    """A key that is unknown here."""
    return ProviderError(401, "InvalidApiKey", "Invalid API-key provided.")


def bad_workspace() -> ProviderError:
    """A workspace that does not exist or has not this account as a member."""
    # The code is documented, its words are not.
    return ProviderError(401, "NOT AUTHORIZED", "The workspace id is wrong or not yours.")


def needs_async() -> ProviderError:
    """A call without the asynchronous header where only asynchronous calls are served."""
    return ProviderError(
        403, "AccessDenied", "current user api does not support synchronous calls."
    )


def refuses_async() -> ProviderError:
    """A synchronous endpoint called with the asynchronous header."""
    return ProviderError(
        403, "AccessDenied", "Current user api does not support asynchronous calls."
    )


def rate_limited() -> ProviderError:
    """Too many requests in the window."""
    return ProviderError(
        429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later."
    )


def too_concurrent() -> ProviderError:
    """Too many tasks at once, when the simulator is told to refuse rather than queue."""
    return ProviderError(
        429, "Throttling.Concurrency", "Requests throttling triggered: too many concurrent tasks."
    )


def input_refused() -> ProviderError:
    """Moderation of what came in."""
    return ProviderError(
        400, "DataInspectionFailed", "Input data may contain inappropriate content."
    )


def output_refused() -> ProviderError:
    """Moderation of what was made."""
    return ProviderError(
        400, "DataInspectionFailed", "Output data may contain inappropriate content."
    )


def infringement() -> ProviderError:
    """A suspected infringement of intellectual property."""
    message = "Input data is suspected of being involved in IP infringement."
    return ProviderError(400, "IPInfringementSuspect", message)


def internal_error() -> ProviderError:
    """The provider's own failure."""
    return ProviderError(
        500, "InternalError", "An internal error has occured, please try again later."
    )


def internal_timeout() -> ProviderError:
    """A task, or one image of it, that took too long."""
    return ProviderError(
        500,
        "InternalError.Timeout",
        "An internal timeout error has occured during execution, please try again later or "
        "contact service support.",
    )


def sync_timeout() -> ProviderError:
    """A synchronous call cut after 300 s."""
    return ProviderError(500, "RequestTimeOut", "Request timed out, please try again later.")


def cancel_refused() -> ProviderError:
    """A cancel for a task that is no longer, or never was, PENDING."""
    return ProviderError(
        400,
        "UnsupportedOperation",
        "Failed to cancel the task, please confirm if the task is in PENDING status.",
    )


def download_failed() -> ProviderError:
    """An image URL that gave no image."""
    return invalid("Image download failed")


def download_timeout() -> ProviderError:
    """An image host that is too slow."""
    return invalid("Download the media resource timed out during the data inspection process.")


def bad_url() -> ProviderError:
    """An image value that is no usable URL; also `oss://` without the resolve header."""
    return invalid(
        "The provided URL does not appear to be valid. Ensure it is correctly formatted."
    )


def wrong_content_type() -> ProviderError:
    """An image host that does not say `image/…`."""
    return invalid("Wrong Content-Type of multimodal url")


def missing_content_length() -> ProviderError:
    """An image host that does not say how long its answer is."""
    return ProviderError(500, "InternalError.Algo", "Missing Content-Length of multimodal url.")


def data_url_too_long() -> ProviderError:
    """A data URL over the cap for one item."""
    return invalid("Exceeded limit on max bytes per data-uri item : 10485760")


def file_too_large() -> ProviderError:
    """An image of too many bytes."""
    return invalid("Multimodal file size is too large")


def bad_image() -> ProviderError:
    """Bytes that are no image of an accepted format, or not the one they are declared as."""
    return invalid("Invalid image format or corrupted file")


def bad_image_format() -> ProviderError:
    """An image in a format that the model does not list."""
    return invalid("Image format error")


def bad_image_size() -> ProviderError:
    """An image whose sides are outside the model's range."""
    return invalid("the size of input image is too small or too large")
