"""The embedded engine: a whole stack on this machine, from the very template that goes to AWS.

`supervisor` keeps a stack's processes, `stack` starts, finds and stops stacks, `packaging` turns the
template's local paths into uploaded artifacts as `sam package` does.
"""
