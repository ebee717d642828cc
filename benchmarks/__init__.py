"""Measurements of whole stacks: proportions within one run, each with the command that makes it."""
