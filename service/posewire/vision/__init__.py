"""Pure picture and geometry functions: numpy and OpenCV in, numpy out, no state."""
