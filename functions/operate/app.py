"""operate: what a person does to one job: cancel, retry, release, resolve."""

from __future__ import annotations

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import Runtime, logger
from retouch.events import Command
from retouch.registry import Json
from retouch.steps.operate import operate

runtime = Runtime()


@event_parser(model=Command)
@logger.inject_lambda_context
def handler(event: Command, context: LambdaContext) -> dict[str, Json]:
    answer = operate(runtime, event.command, event.job_id, event.task_id)
    logger.info("operate", extra={"command": event.command, **answer})
    return answer
