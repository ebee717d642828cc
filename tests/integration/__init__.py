"""The AWS adapters and the handlers, over moto."""
