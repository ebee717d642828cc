"""generate: the one long call of a synchronous model."""

from __future__ import annotations

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import Runtime, logger
from retouch.events import Turn
from retouch.registry import Json
from retouch.steps.generate import generate

runtime = Runtime()


@event_parser(model=Turn)
@logger.inject_lambda_context
def handler(event: Turn, context: LambdaContext) -> dict[str, Json]:
    deadline = runtime.clock.now() + context.get_remaining_time_in_millis() / 1000
    answer = generate(runtime, event.job_id, event.fence, deadline)
    logger.info("generate", extra=answer)
    return answer
