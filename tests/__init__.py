"""Tests, and the doubles they share."""
