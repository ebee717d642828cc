"""webhook: one attempt for each message to give it to the operator's webhook."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import logger, metrics
from retouch.aws.webhook import WebhookRuntime
from retouch.events import MessageBatch
from retouch.steps.deliver import Attempt, deliver

runtime = WebhookRuntime()


@event_parser(model=MessageBatch)
@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: MessageBatch, context: LambdaContext) -> PartialItemFailureResponse:
    kept = []
    for message in event.records:
        attempt = Attempt(message.body, message.receipt, message.attributes.receives)
        delivery = deliver(runtime, attempt)
        said = {"webhook_id": delivery.ident, "attempt": attempt.number, "why": delivery.why}
        logger.info(f"webhook {delivery.outcome}", extra=said)
        name = f"Webhook-{delivery.outcome}"
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=1)
        if not delivery.outcome.done:
            kept.append(message.message_id)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in kept]}
