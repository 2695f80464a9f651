"""Scenarios: steps, waits that explain themselves, invariants, verdicts."""
