"""The networks on a CPU without a tensor library: kernels of our own, in C++, and what lays a network out for them.

ONNX Runtime's convolutions are fast; what makes Lite-HRNet slow there is all that lies between them, and that a block can
only have half of a map's channels by copying them. Here maps are (height, width, channels): a block works in place on a range
of the channels, a channel shuffle is a matter of names, and weighting, depthwise convolution and mean are one pass.

`network` and its helpers lay out Lite-HRNet, of weights in `folded` form; `detection` lays out a detector in INT8, of `quantized` ones.
Either makes a `program`, which a `session` runs.
"""
