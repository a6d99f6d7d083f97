"""Bounds of the histograms; they are close together where most values lie.

They follow the times measured on two cores (loadtests/README.md). 0.25 and 0.5 s are thresholds of alerts and objectives
(monitoring/rules).
"""

# One step: a stage, a model run, a wait in a queue, the lag of the event loop. Also the age of a frame, a few steps together.
STEP_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)

# A whole request, up to the default deadline (10 s), and videos, which take longer.
REQUEST_S = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
PEOPLE = (0, 1, 2, 3, 5, 8, 13, 21, 34, 50, 100)
