"""The ladder, fan-out, trials, clocks and traces of one evaluation."""
