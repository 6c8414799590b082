"""Engines: where a policy's tokens come from."""
