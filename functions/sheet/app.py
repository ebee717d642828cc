"""sheet: makes the contact sheet of a job that has ended."""

from __future__ import annotations

from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.typing import LambdaContext

from retouch.aws.runtime import Runtime, logger
from retouch.events import EndedBatch
from retouch.registry import Json
from retouch.steps.sheet import sheet

runtime = Runtime()


@event_parser(model=EndedBatch)
@logger.inject_lambda_context
def handler(event: EndedBatch, context: LambdaContext) -> dict[str, Json]:
    job = event.job
    deadline = runtime.clock.now() + context.get_remaining_time_in_millis() / 1000
    key = sheet(runtime, job.outbox.folder, job.job_id, deadline)
    logger.info("sheet", extra={"job_id": job.job_id, "page": key})
    return {"job_id": job.job_id, "page": key}
