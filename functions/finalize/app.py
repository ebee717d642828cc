"""finalize: copies results to the outbox, closes the job, notifies."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import Runtime, logger, metrics
from retouch.events import Turn
from retouch.registry import Json
from retouch.steps.finalize import finalize

runtime = Runtime()


@event_parser(model=Turn)
@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: Turn, context: LambdaContext) -> dict[str, Json]:
    deadline = runtime.clock.now() + context.get_remaining_time_in_millis() / 1000
    answer = finalize(runtime, event.job_id, event.fence, deadline)
    logger.info("finalize", extra=answer)
    outcome = f"Job-{answer['status']}" if answer["next"] == "stop" else "FinalizeTurns"
    metrics.add_metric(name=outcome, unit=MetricUnit.Count, value=1)
    return answer
