"""The steps over in-memory fakes."""
