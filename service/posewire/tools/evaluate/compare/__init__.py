"""Two detectors or pose models on the same images: figures, intervals of the differences, times, and the worst cases."""
