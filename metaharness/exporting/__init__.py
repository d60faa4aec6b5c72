"""Takes one candidate out of a run, into a folder from which it can be used without the run.

    first-004/
      harness.py         the candidate, unchanged; the folder harness/ where it has several files
      driver.py          only if the domain has one
      examples.jsonl     the cases of `train`: what `learn` is shown
      use.py             connects, builds, learns, asks
      requirements.txt   numbers.json   README.md

Labels of `search` and `test` do not go out. What this does not guard: what the candidate does when it is used.
"""

from metaharness.exporting.folder import Export, export, sealed_test

__all__ = ["Export", "export", "sealed_test"]
