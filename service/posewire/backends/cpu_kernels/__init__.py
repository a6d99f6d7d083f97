"""Lite-HRNet on a CPU without a tensor library: kernels of our own, in C++, and what lays the network out for them.

ONNX Runtime's convolutions are fast; what makes Lite-HRNet slow there is all that lies between them, and that a block can
only have half of a map's channels by copying them. Here maps are (height, width, channels): a block works in place on a range
of the channels, a channel shuffle is a matter of names, and weighting, depthwise convolution and mean are one pass.

`network` and its helpers lay out the network, of weights in `folded` form, as a `program`, which a `session` runs.
"""
