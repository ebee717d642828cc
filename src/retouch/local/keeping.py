"""Keeping the embedded engine's table: a mirror on disk that is never behind an answer.

The engine holds its tables in memory and writes them down at a graceful stop only. `Kept` stands in
front of it (both are ASGI applications) and promises: a write to a table is on disk before whoever
made it hears that it was done, so an intent to spend money is there after a SIGKILL or a power cut.
And no request sees a table before what was kept of it is back.

What is kept is the items as they are after a write, not the writes: so the order in which two writes
are noted does not matter, and nothing has to be replayed.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Item = Mapping[str, Any]

_SERVICE: Final = "DynamoDB_20120810."
_KEY: Final = ("pk", "sk")
"""The key attributes of every table here: see `retouch.aws.store`."""
_BATCH: Final = 25
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS items (
  name TEXT NOT NULL, pk TEXT NOT NULL, sk TEXT NOT NULL, item TEXT NOT NULL,
  PRIMARY KEY (name, pk, sk)
) WITHOUT ROWID
"""


class NotKept(Exception):
    """What was kept could not be put back, or could not be read after a write."""


class Kept:
    """The engine, with its tables kept in a file."""

    def __init__(self, engine: Asgi, path: Path):
        self._engine = engine
        # Another thread never uses it; the loop's own may not be the one that made it.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(_SCHEMA)
        self._restoring = asyncio.Lock()
        self._noting = asyncio.Lock()
        self._restored: set[str] = set()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        action = _action(scope)
        if action is None:
            await self._engine(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return  # whoever asked is gone
        keys = list(_written(action, json.loads(body)))
        for name in _tables(json.loads(body)):
            await self._restore(scope, name)
        if not keys:
            await self._engine(scope, _once(body, receive), send)
            return
        answer = _Answer()
        await self._engine(scope, _once(body, receive), answer.take)
        if answer.status == 200:
            await self._note(scope, keys)
        for message in answer.messages:
            await send(message)

    async def _note(self, scope: Scope, keys: list[tuple[str, Item]]) -> None:
        async with self._noting:  # so that what is read last is what is kept last
            found = [(name, key, await self._get(scope, name, key)) for name, key in keys]
            self._db.execute("BEGIN IMMEDIATE")
            for name, key, item in found:
                at = (name, key["pk"]["S"], key["sk"]["S"])
                if item is None:
                    self._db.execute("DELETE FROM items WHERE name = ? AND pk = ? AND sk = ?", at)
                else:
                    text = json.dumps(item, ensure_ascii=False)
                    self._db.execute(
                        "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", (*at, text)
                    )
            self._db.execute("COMMIT")

    async def _restore(self, scope: Scope, name: str) -> None:
        """Put a table's items back, once, before anybody reads or writes it."""
        if name in self._restored:
            return
        async with self._restoring:
            if name in self._restored:
                return
            rows = self._db.execute("SELECT item FROM items WHERE name = ?", (name,)).fetchall()
            items = [json.loads(text) for (text,) in rows]
            for start in range(0, len(items), _BATCH):
                puts = [{"PutRequest": {"Item": item}} for item in items[start : start + _BATCH]]
                status, answer = await self._ask(
                    scope, "BatchWriteItem", {"RequestItems": {name: puts}}
                )
                if status != 200 or json.loads(answer).get("UnprocessedItems"):
                    raise NotKept(f"the table {name} could not be restored: {answer[:500]!r}")
            self._restored.add(name)

    async def _get(self, scope: Scope, name: str, key: Item) -> Item | None:
        asked = {"TableName": name, "Key": key, "ConsistentRead": True}
        status, answer = await self._ask(scope, "GetItem", asked)
        if status != 200:
            raise NotKept(f"an item of the table {name} could not be read: {answer[:500]!r}")
        item: Item | None = json.loads(answer).get("Item")
        return item

    async def _ask(
        self, scope: Scope, action: str, request: Mapping[str, Any]
    ) -> tuple[int, bytes]:
        """Ask the engine something of our own, in the name of whoever asks."""
        body = json.dumps(request, ensure_ascii=False).encode("utf-8")
        ours = {b"x-amz-target": (_SERVICE + action).encode(), b"content-length": b"%d" % len(body)}
        headers = [(name, value) for name, value in scope["headers"] if name.lower() not in ours]
        answer = _Answer()
        await self._engine(
            {**scope, "headers": [*headers, *ours.items()]}, _once(body, _nobody), answer.take
        )
        return answer.status, answer.body


class _Answer:
    """An answer that is held back."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def take(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return next((m["status"] for m in self.messages if m["type"] == "http.response.start"), 0)

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages)


def _action(scope: Scope) -> str | None:
    """What a request asks of DynamoDB; None for every other."""
    if scope["type"] != "http":
        return None
    for name, value in scope["headers"]:
        if name.lower() == b"x-amz-target" and value.startswith(_SERVICE.encode()):
            return str(value.decode("latin-1"))[len(_SERVICE) :]
    return None


def _tables(request: Mapping[str, Any]) -> set[str]:
    """The tables whose items a request reads or writes. Of those that are only described, none."""
    if "RequestItems" in request:
        return set(request["RequestItems"])
    if "TransactItems" in request:
        return {next(iter(entry.values()))["TableName"] for entry in request["TransactItems"]}
    of_items = {"Item", "Key", "KeyConditionExpression", "KeyConditions"} & request.keys()
    return {request["TableName"]} if of_items else set()


def _written(action: str, request: Mapping[str, Any]) -> Iterator[tuple[str, Item]]:
    """The table and key of each item that a request may change."""
    match action:
        case "PutItem":
            yield request["TableName"], _key_of(request["Item"])
        case "UpdateItem" | "DeleteItem":
            yield request["TableName"], request["Key"]
        case "BatchWriteItem":
            for name, entries in request["RequestItems"].items():
                for entry in entries:
                    put = entry.get("PutRequest")
                    yield name, _key_of(put["Item"]) if put else entry["DeleteRequest"]["Key"]
        case "TransactWriteItems":
            for entry in request["TransactItems"]:
                if (put := entry.get("Put")) is not None:
                    yield put["TableName"], _key_of(put["Item"])
                elif (other := entry.get("Update") or entry.get("Delete")) is not None:
                    yield other["TableName"], other["Key"]


def _key_of(item: Item) -> Item:
    return {name: item[name] for name in _KEY}


async def _read(receive: Receive) -> bytes | None:
    chunks = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _once(body: bytes, then: Receive) -> Receive:
    """A request's body, whole; after it whatever `then` has."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return left.pop() if left else await then()

    return receive


async def _nobody() -> Message:
    return {"type": "http.disconnect"}
