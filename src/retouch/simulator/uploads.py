"""Temporary uploads: the policy call, the form post it allows, and `oss://` keys.

A policy is good for 300 s and one folder; a file is good for 48 h, for the account that uploaded
it and the model named in the policy call, and cannot be overwritten.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from retouch.simulator import errors
from retouch.simulator.clock import Clock
from retouch.simulator.errors import ProviderError

POLICY_SECONDS = 300
FILE_SECONDS = 48 * 3600
MAX_FILE_MB = 100
UPLOAD_PATH = "/oss/dashscope-file"
_ACCESS_KEY_ID = "LTAI5tSIMULATED"


@dataclass(frozen=True)
class _Grant:
    account: str
    model: str
    expires: float


@dataclass(frozen=True)
class _File:
    data: bytes
    account: str
    model: str
    expires: float


class UploadStore:
    """Uploaded files in memory, at most `max_bytes` of them."""

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._secret = secrets.token_bytes(16)
        self._grants: dict[str, _Grant] = {}
        self._files: dict[str, _File] = {}

    def grant(self, account: str, model: str, host: str) -> dict[str, Any]:
        """The `data` of a policy answer that lets `account` post files for `model` to `host`."""
        now = self._clock.now()
        self._grants = {d: grant for d, grant in self._grants.items() if grant.expires > now}
        folder = f"dashscope-instant/{secrets.token_hex(16)}/{uuid4()}"
        self._grants[folder] = _Grant(account, model, now + POLICY_SECONDS)
        policy = base64.b64encode(
            json.dumps(
                {"expiration": int(now + POLICY_SECONDS), "conditions": [["starts-with", folder]]}
            ).encode()
        ).decode()
        return {
            "policy": policy,
            "signature": self._signature(policy),
            "upload_dir": folder,
            "upload_host": f"{host}{UPLOAD_PATH}",
            "expire_in_seconds": POLICY_SECONDS,
            "max_file_size_mb": MAX_FILE_MB,
            "capacity_limit_mb": 999_999_999,
            "oss_access_key_id": _ACCESS_KEY_ID,
            "x_oss_object_acl": "private",
            "x_oss_forbid_overwrite": "true",
        }

    def put(self, form: dict[str, str], data: bytes) -> None:
        """Take a file posted with the form fields that come with a policy.

        Raises:
            ProviderError: The form does not carry the policy, or the file cannot be taken.
        """
        if form.get("OSSAccessKeyId") != _ACCESS_KEY_ID or not hmac.compare_digest(
            form.get("Signature", ""), self._signature(form.get("policy", ""))
        ):
            raise ProviderError(
                403, "SignatureDoesNotMatch", "The request signature we calculated does not match."
            )
        key = form.get("key", "")
        folder, _, name = key.rpartition("/")
        grant = self._grants.get(folder)
        now = self._clock.now()
        if grant is None or grant.expires <= now:
            raise ProviderError(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
        if (
            not name
            or form.get("x-oss-object-acl") != "private"
            or form.get("x-oss-forbid-overwrite") != "true"
        ):
            raise ProviderError(403, "AccessDenied", "Invalid according to Policy.")
        self._files = {k: file for k, file in self._files.items() if file.expires > now}
        if key in self._files:
            raise ProviderError(
                409, "FileAlreadyExists", "The object you specified already exists."
            )
        if (
            len(data) > MAX_FILE_MB * 1024 * 1024
            or sum(len(file.data) for file in self._files.values()) + len(data) > self._max_bytes
        ):
            raise ProviderError(
                400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size."
            )
        self._files[key] = _File(data, grant.account, grant.model, now + FILE_SECONDS)

    def read(self, key: str, account: str, model: str) -> bytes:
        """The file behind `oss://key`, for the account and model it was uploaded for.

        Raises:
            ProviderError: There is no such file for this account and model.
        """
        file = self._files.get(key)
        if (
            file is None
            or file.expires <= self._clock.now()
            or (file.account, file.model) != (account, model)
        ):
            raise errors.download_failed()
        return file.data

    def _signature(self, policy: str) -> str:
        digest = hmac.new(self._secret, policy.encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()
