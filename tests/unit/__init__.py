"""Tests of the pure modules, and of the provider client over a transport in memory."""
