"""A kept table: on disk before an answer, back before a question, whatever the order of writes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from retouch.local.keeping import Kept, Message, NotKept, Receive, Scope, Send


class Engine:
    """As much of an engine as there is to keep: one table in memory."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Any] = {}
        self.asked: list[str] = []
        self.refuse: set[str] = set()
        self.applied = asyncio.Event()
        self.pause = asyncio.Event()
        self.pause.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        body = message["body"]
        headers = dict(scope["headers"])
        assert int(headers[b"content-length"]) == len(body)
        action = headers.get(b"x-amz-target", b"").decode().removeprefix("DynamoDB_20120810.")
        self.asked.append(action)
        if action in self.refuse:
            answer, status = {"__type": "ConditionalCheckFailedException"}, 400
        else:
            answer, status = self.answer(action, json.loads(body or b"{}")), 200
        if action == "UpdateItem":
            self.applied.set()
            await self.pause.wait()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def answer(self, action: str, request: Any) -> Any:
        match action:
            case "PutItem":
                self.put(request["Item"])
            case "UpdateItem":
                at = self.at(request["Key"])
                self.items[at] = {**self.items.get(at, request["Key"]), "n": request["n"]}
            case "DeleteItem":
                self.items.pop(self.at(request["Key"]), None)
            case "GetItem":
                item = self.items.get(self.at(request["Key"]))
                return {} if item is None else {"Item": item}
            case "BatchWriteItem":
                for entry in request["RequestItems"]["T"]:
                    if "PutRequest" in entry:
                        self.put(entry["PutRequest"]["Item"])
                    else:
                        self.items.pop(self.at(entry["DeleteRequest"]["Key"]), None)
            case "TransactWriteItems":
                for entry in request["TransactItems"]:
                    if "Put" in entry:
                        self.put(entry["Put"]["Item"])
                    elif "Delete" in entry:
                        self.items.pop(self.at(entry["Delete"]["Key"]), None)
        return {}

    def put(self, item: Any) -> None:
        self.items[self.at(item)] = item

    @staticmethod
    def at(key: Any) -> tuple[str, str]:
        return key["pk"]["S"], key["sk"]["S"]


def item(pk: str, **more: Any) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": "😀"}, **more}


async def ask(app: Kept, action: str, request: Any) -> int:
    body = json.dumps(request).encode()
    headers = [
        (
            b"X-Amz-Target" if action == "PutItem" else b"x-amz-target",
            f"DynamoDB_20120810.{action}",
        ),
        (b"content-length", str(len(body))),
        (b"authorization", "somebody"),
    ]
    scope = {
        "type": "http",
        "headers": [(name.lower(), value.encode()) for name, value in headers],
    }
    halves: list[Message] = [
        {"type": "http.request", "body": body[9:], "more_body": False},
        {"type": "http.request", "body": body[:9], "more_body": True},
    ]
    answers: list[Message] = []

    async def receive() -> Message:
        return halves.pop()

    async def send(message: Message) -> None:
        answers.append(message)

    await app(scope, receive, send)
    return int(answers[0]["status"]) if answers else 0


def on_disk(path: Path) -> dict[str, Any]:
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT pk, item FROM items").fetchall()
    db.close()
    return {pk: json.loads(text) for pk, text in rows}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.db"


def test_each_kind_of_write_is_kept(path: Path) -> None:
    async def story() -> None:
        app = Kept(Engine(), path)
        await ask(app, "PutItem", {"TableName": "T", "Item": item("a", n=1)})
        await ask(app, "PutItem", {"TableName": "T", "Item": item("b")})
        await ask(app, "UpdateItem", {"TableName": "T", "Key": item("a"), "n": 2})
        await ask(app, "DeleteItem", {"TableName": "T", "Key": item("b")})
        puts = [{"PutRequest": {"Item": item("c")}}, {"PutRequest": {"Item": item("d")}}]
        await ask(app, "BatchWriteItem", {"RequestItems": {"T": puts}})
        drop = [{"DeleteRequest": {"Key": item("d")}}]
        await ask(app, "BatchWriteItem", {"RequestItems": {"T": drop}})
        transaction = [
            {"Put": {"TableName": "T", "Item": item("e")}},
            {"Delete": {"TableName": "T", "Key": item("c")}},
            {"ConditionCheck": {"TableName": "T", "Key": item("a")}},
        ]
        await ask(app, "TransactWriteItems", {"TransactItems": transaction})
        app.close()

    asyncio.run(story())
    assert on_disk(path) == {"a": item("a", n=2), "e": item("e")}


def test_what_was_kept_is_back_before_anything_is_read(path: Path) -> None:
    async def story() -> None:
        before = Kept(Engine(), path)
        for number in range(60):
            await ask(before, "PutItem", {"TableName": "T", "Item": item(f"{number}")})
        before.close()
        engine = Engine()
        after = Kept(engine, path)
        # A description is no reading: the deployment asks for one before there is a table.
        await ask(after, "DescribeTable", {"TableName": "T"})
        assert engine.items == {}
        await ask(after, "GetItem", {"TableName": "T", "Key": item("7")})
        assert len(engine.items) == 60
        assert engine.asked == ["DescribeTable", *["BatchWriteItem"] * 3, "GetItem"]
        await ask(after, "Query", {"TableName": "T", "KeyConditionExpression": "pk = :pk"})
        assert engine.asked.count("BatchWriteItem") == 3
        after.close()

    asyncio.run(story())


def test_a_write_that_was_refused_changes_nothing(path: Path) -> None:
    async def story() -> None:
        engine = Engine()
        app = Kept(engine, path)
        await ask(app, "PutItem", {"TableName": "T", "Item": item("a", n=1)})
        engine.refuse = {"PutItem"}
        assert await ask(app, "PutItem", {"TableName": "T", "Item": item("a", n=2)}) == 400
        app.close()

    asyncio.run(story())
    assert on_disk(path) == {"a": item("a", n=1)}


def test_of_two_writes_the_last_is_kept_whichever_is_answered_first(path: Path) -> None:
    async def story() -> None:
        engine = Engine()
        app = Kept(engine, path)
        await ask(app, "PutItem", {"TableName": "T", "Item": item("a", n=0)})
        engine.pause.clear()  # applied, and not answered yet
        slow = asyncio.create_task(
            ask(app, "UpdateItem", {"TableName": "T", "Key": item("a"), "n": 1})
        )
        await engine.applied.wait()
        await ask(app, "PutItem", {"TableName": "T", "Item": item("a", n=2)})
        engine.pause.set()
        await slow
        assert engine.items["a", "😀"]["n"] == 2
        app.close()

    asyncio.run(story())
    assert on_disk(path) == {"a": item("a", n=2)}


def test_nobody_hears_that_a_write_was_done_before_it_is_on_disk(path: Path) -> None:
    async def story() -> None:
        engine = Engine()
        app = Kept(engine, path)
        engine.refuse = {"GetItem"}  # so that it cannot be kept
        with pytest.raises(NotKept):
            await ask(app, "PutItem", {"TableName": "T", "Item": item("a")})
        app.close()

    asyncio.run(story())


def test_a_table_that_cannot_be_restored_is_not_served_without_its_items(path: Path) -> None:
    async def story() -> None:
        before = Kept(Engine(), path)
        await ask(before, "PutItem", {"TableName": "T", "Item": item("a")})
        before.close()
        engine = Engine()
        engine.refuse = {"BatchWriteItem"}
        after = Kept(engine, path)
        for _ in range(2):
            with pytest.raises(NotKept):
                await ask(after, "GetItem", {"TableName": "T", "Key": item("a")})
        engine.refuse = set()
        await ask(after, "GetItem", {"TableName": "T", "Key": item("a")})
        assert engine.items == {("a", "😀"): item("a")}
        after.close()

    asyncio.run(story())
