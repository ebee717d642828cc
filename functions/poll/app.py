"""poll: one status query; frees the slot of a task that has ended and kicks its lane."""

from __future__ import annotations

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import Runtime, logger
from retouch.events import Turn
from retouch.registry import Json
from retouch.steps.poll import poll

runtime = Runtime()


@event_parser(model=Turn)
@logger.inject_lambda_context
def handler(event: Turn, context: LambdaContext) -> dict[str, Json]:
    answer = poll(runtime, event.job_id, event.fence)
    logger.info("poll", extra=answer)
    return answer
