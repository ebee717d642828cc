"""submit: pairs uploads with sidecars, validates, preflights, enters jobs into their lanes."""

from __future__ import annotations

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import Runtime, logger, metrics
from retouch.events import errand_in
from retouch.steps.submit import see_to

runtime = Runtime()
processor = BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)


def _upload(record: SQSRecord) -> None:
    jobs = see_to(runtime, errand_in(record.body))
    logger.info("object seen", extra={"jobs": jobs})


@metrics.log_metrics
@logger.inject_lambda_context
def handler(event: dict[str, object], context: LambdaContext) -> PartialItemFailureResponse:
    answer = process_partial_response(event, _upload, processor, context)
    failed = len(answer["batchItemFailures"])
    metrics.add_metric(name="ObjectsSeen", unit=MetricUnit.Count, value=len(processor.records))
    metrics.add_metric(name="ObjectsFailed", unit=MetricUnit.Count, value=failed)
    return answer
