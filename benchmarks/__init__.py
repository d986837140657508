"""Measure the service against its bars; see README.md."""
