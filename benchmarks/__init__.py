"""The yardsticks (docs: README.md beside this file): `python -m benchmarks`, one table and one JSON file per run.

Measures, and judges nothing: no time is asserted anywhere. Everything it starts it ends, by process id.
"""
