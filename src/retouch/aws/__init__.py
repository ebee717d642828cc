"""The adapters: everything that knows boto3, and nothing that decides."""
