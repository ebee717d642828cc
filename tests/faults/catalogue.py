"""The faults that must change nothing, and what whoever drops an image can rely on under each.

A test says which of them it injects with `@pytest.mark.fault(NUMBER)`; `docs/reliability.md` is made
from a run of those tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. `holds` is a plain sentence: what stands all the same."""

    number: int
    group: str
    title: str
    holds: str


def _group(name: str, *faults: tuple[int, str, str]) -> tuple[Fault, ...]:
    return tuple(Fault(number, name, title, holds) for number, title, holds in faults)


FAULTS: Final[tuple[Fault, ...]] = (
    *_group(
        "Events",
        (
            1,
            "an event is delivered twice",
            "One version of a sidecar is one job: it is sent, billed and announced once, however "
            "often its events come.",
        ),
        (
            2,
            "events come out of order",
            "The order does not matter: the job starts when the last of its files is there.",
        ),
        (
            3,
            "an event comes minutes late",
            "A late event finds what lies in the bucket then; the job is made late, or is there "
            "already and is left as it is.",
        ),
        (
            4,
            "an event is never delivered",
            "What lies in the inbox is found all the same, by a sweep.",
        ),
        (
            5,
            "several events in one batch, one of them bad",
            "The others are worked off; only the bad one comes again.",
        ),
        (
            6,
            "an event for an object that was overwritten meanwhile",
            "A job uses the very versions that it was entered with; a newer sidecar is a newer "
            "job.",
        ),
        (
            7,
            "an event for an object that was deleted meanwhile",
            "Nothing is sent for what is gone; a job that needs it waits, or ends and says what "
            "is missing.",
        ),
        (
            8,
            "keys with spaces, +, %, #, Chinese, emoji, and of 1,024 bytes",
            "Every key that S3 takes is paired, edited, and answered in the outbox.",
        ),
    ),
    *_group(
        "Inputs",
        (
            9,
            "the sidecar comes after its images",
            "The job starts with the sidecar, on the images that are there.",
        ),
        (
            10,
            "the sidecar comes before its images",
            "The job waits, says which images it waits for, and starts with the last of them.",
        ),
        (
            11,
            "the images never come",
            "The job stays visible, names what is missing, and tells its owner once; nothing is "
            "spent.",
        ),
        (
            12,
            "a sidecar that is not JSON, not UTF-8, has a BOM, duplicate keys, NaN, 10,000 "
            "levels, 1 GB",
            "It is refused in words that say what is wrong (a BOM is read over); nothing is "
            "spent, and a mended one makes its job.",
        ),
        (
            13,
            "an image truncated, mislabelled, a bomb, empty, or over a limit of its model",
            "It is refused before anything is spent, in words that name the file and the limit; a "
            "wrong file name alone does no harm.",
        ),
        (
            14,
            "a mask of another size, or not black and white",
            "It is refused before anything is spent.",
        ),
        (
            15,
            "two sidecars for one image, one image for two sidecars",
            "Of two sidecars named after one image the full name goes first and the other is told "
            "so; an image that several sidecars name is edited for each.",
        ),
    ),
    *_group(
        "Queue and table",
        (
            16,
            "SQS delivers again while the first delivery still runs",
            "Both end in the same job; it is sent and billed once.",
        ),
        (
            17,
            "a kick is lost",
            "The lane goes on within a minute.",
        ),
        (
            18,
            "two dispatchers at once in a lane",
            "Together they keep the window and the pace, and send each job once.",
        ),
        (
            19,
            "DynamoDB throttles, or a transaction conflicts, at any write",
            "The write is made again on fresh state; every job ends as it would have, and is "
            "billed once.",
        ),
        (
            20,
            "dispatch dies after admitting a job, before the POST",
            "The job goes back to its place and is sent later; its slot is free again.",
        ),
        (
            21,
            "dispatch dies after the POST, before recording the task",
            "The task is found in the provider's list and taken on; it is not made again. A "
            "synchronous call leaves none to find, so a person is asked.",
        ),
        (
            22,
            "StartExecution fails, or the execution already exists",
            "The job gets exactly one execution that lives, and loses nothing.",
        ),
    ),
    *_group(
        "Provider",
        (
            23,
            "the POST times out, the task was made",
            "The task is found in the provider's list and taken on; it is not made again. A "
            "synchronous call leaves none to find, so a person is asked.",
        ),
        (
            24,
            "the POST times out, the task was not made",
            "Once the provider's list has stayed empty for long enough the job is sent again, and "
            "says so. After a synchronous call, which is in no list, a person is asked.",
        ),
        (
            25,
            "429 on create",
            "The job keeps its place and the lane slows down; nothing is lost or billed twice.",
        ),
        (
            26,
            "5xx on create, the task was made",
            "The task is found in the provider's list and taken on; it is not made again. A "
            "synchronous call leaves none to find, so a person is asked.",
        ),
        (
            27,
            "429 and 5xx on a query",
            "It says nothing about the task, which is asked after again.",
        ),
        (
            28,
            "a task FAILED",
            "The job fails with the provider's words, at no cost; the lane goes on.",
        ),
        (
            29,
            "some of the images failed",
            "The others are delivered and paid for; the job is PARTIAL and says why each one is "
            "missing.",
        ),
        (
            30,
            "a task is UNKNOWN, at once and after 24 h",
            "At once it is asked after again; for good, the job ends and says that money may be "
            "lost.",
        ),
        (
            31,
            "a task is PENDING or RUNNING for hours",
            "It is asked after ever more slowly, is delivered however late it ends, and given up "
            "only after the provider's own limit.",
        ),
        (
            32,
            "the content is refused by moderation",
            "That job ends with the provider's words, unbilled; the others go on.",
        ),
        (
            33,
            "key revoked or bill overdue in the middle of 1,000 jobs, then mended",
            "The lane pauses, tells the operator once, probes now and then, and goes on by "
            "itself; no job is lost.",
        ),
        (
            34,
            "a state or a field never seen before",
            "An unknown field is passed over; an unknown state has not ended, and is asked after "
            "again.",
        ),
        (
            35,
            "HTML instead of JSON, or a body cut off",
            "It says nothing about the task: a query is asked again, a call that "
            "bills is never simply repeated.",
        ),
    ),
    *_group(
        "Results",
        (
            36,
            "a result's URL has expired",
            "Fresh URLs are asked for; where there are none, the job ends and says that money may "
            "be lost.",
        ),
        (
            37,
            "a download is cut off, of the wrong type, larger than promised, or a byte a second",
            "No broken image reaches the outbox: what time can mend is fetched again, the rest is "
            "said on the job.",
        ),
        (
            38,
            "a result redirects, lies on a host not on the list, or in a private network",
            "Nothing is fetched from there; an unknown host is reported to the operator while the "
            "result still lives.",
        ),
        (
            39,
            "the outbox refuses the write",
            "The job is not closed before its results are there; other jobs go on.",
        ),
        (
            40,
            "finalize dies after writing, before notifying",
            "The job ends once and its owner is told, at most in two identical messages.",
        ),
        (
            41,
            "an older job for the same name finishes after a newer one",
            "It writes into a folder of its own and never covers the newer results.",
        ),
    ),
    *_group(
        "Operators",
        (
            42,
            "an execution is stopped by hand",
            "The job gets another one and ends as it would have, billed once.",
        ),
        (
            43,
            "an execution times out",
            "The job gets another one and ends as it would have, billed once.",
        ),
        (
            44,
            "an execution is redriven",
            "It finds where the job is by now; nothing is done or billed a second time.",
        ),
        (
            45,
            "cancel while queued, pending, running, finalizing",
            "What has not been sent never is; what the provider will not give up is delivered; "
            "the job ends once.",
        ),
        (
            46,
            "the stack is updated while jobs run",
            "Jobs of the code before are carried on by the code after.",
        ),
        (
            47,
            "clocks are off by 5 s",
            "Nothing is sent twice, no lease ends early, no task is missed or taken for another's. "
            "The rate is kept as well as the clocks of our own machines agree.",
        ),
        (
            48,
            "10,000 images are dropped at once",
            "They wait in their lane and go through its window one after the other; none is lost "
            "or overtaken.",
        ),
    ),
)

BY_NUMBER: Final = {fault.number: fault for fault in FAULTS}
