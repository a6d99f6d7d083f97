"""Pure functions on images: decoding, drawing, geometry, resizing."""
