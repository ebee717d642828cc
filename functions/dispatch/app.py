"""dispatch: the one writer of a lane; admits jobs, creates their tasks, starts their executions."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import Runtime, logger, metrics
from retouch.events import KickBatch
from retouch.steps.dispatch import dispatch

runtime = Runtime()


@event_parser(model=KickBatch)
@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: KickBatch, context: LambdaContext) -> PartialItemFailureResponse:
    deadline = runtime.clock.now() + context.get_remaining_time_in_millis() / 1000
    failed = event.unreadable()
    for lane, messages in event.by_lane().items():
        try:
            admitted = dispatch(runtime, lane, deadline)
        except Exception:  # noqa: BLE001  the outermost edge: other lanes must go on
            logger.exception("lane failed", extra={"lane": lane})
            failed += messages
            continue
        logger.info("lane served", extra={"lane": lane, "admitted": admitted})
        metrics.add_metric(name="JobsAdmitted", unit=MetricUnit.Count, value=admitted)
    metrics.add_metric(name="KicksFailed", unit=MetricUnit.Count, value=len(failed))
    return {"batchItemFailures": [{"itemIdentifier": message} for message in failed]}
