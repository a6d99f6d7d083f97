"""Bounds of the histograms, close together where values lie.

Chosen from what was measured on two cores (loadtests/README.md; a model's runs are in the log at every start): cutting and encoding
take 0.2 to 1 ms, decoding 3 to 6 ms, a run of the pose model 2 ms for one person to 25 ms for 16, one of the detector 9 to 25 ms. A lone
request takes 15 to 20 ms, one of 32 people 50 to 85 ms, and at ten times the capacity 1.1 s (p99); a frame of a stream 8 ms to its
deadline of 1 s. 0.25 and 0.5 s are thresholds of alerts and objectives (monitoring/rules).
"""

# One step of the work: a stage, a model run, a wait in a queue, a turn of the event loop; and a frame's age, a few of them.
STEP_S = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)

# A whole request, up to its own deadline (10 s) and the video that takes longer.
REQUEST_S = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
PEOPLE = (0, 1, 2, 3, 5, 8, 13, 21, 34, 50, 100)
