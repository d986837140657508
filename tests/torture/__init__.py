"""Kill the service again and again under load, and compare what is left with what should be.

`ordeal.run` is all of it: the tests run it with a score of kills, `benchmarks` with hundreds.
"""
