"""reconcile: heals what was interrupted, every minute and whenever an execution ends early."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import Runtime, logger, metrics
from retouch.events import ExecutionEnded
from retouch.registry import Json
from retouch.steps.reconcile import execution_ended, reconcile

_SPARE_SECONDS = 25.0  # one remedy at its slowest, and telling of it

runtime = Runtime()


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, Json], context: LambdaContext) -> dict[str, Json]:
    turn = ExecutionEnded.turn_in(event)
    if turn is not None:
        remedy = execution_ended(runtime, turn.job_id, turn.fence)
        metrics.add_metric(name="ExecutionsEndedEarly", unit=MetricUnit.Count, value=1)
        logger.info("execution ended early", extra={"job_id": turn.job_id, "remedy": remedy})
        return {"job_id": turn.job_id, "remedy": remedy}
    deadline = runtime.clock.now() + context.get_remaining_time_in_millis() / 1000 - _SPARE_SECONDS
    done = reconcile(runtime, deadline)
    metrics.add_metric(name="Rounds", unit=MetricUnit.Count, value=1)
    for name, count in done.items():
        metrics.add_metric(name=f"Reconcile-{name}", unit=MetricUnit.Count, value=count)
    logger.info("reconciled", extra={"done": dict(done)})
    return dict(done)
