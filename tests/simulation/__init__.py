"""Thousands of jobs through the real steps, in virtual time: what holds when all happens at once.

`python -m tests.simulation` runs it and prints the figures; `make simulate` makes both runs of the
project. The code under test is `retouch.steps` and what it calls, unchanged; simulated is what stands
around it:

    engine      virtual time, and processes that really interleave in it
    aws         the table, the buckets, the queues, the functions' invocations and the state machine
    provider    accounts with quotas, rates, retention and a task list, which count everything
    workload    what is dropped, by whom it is cancelled, and what a person decides
    run         one run from the first drop to rest
    report      the figures, and what of them breaks a promise
"""
