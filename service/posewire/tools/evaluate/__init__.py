"""COCO metrics, errors by keypoint, and the calibration of scores."""
