"""Full-precision models to INT8."""
