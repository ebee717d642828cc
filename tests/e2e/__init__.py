"""The deployed template on the embedded engine, driven as a user would: through S3 and the CLI."""
