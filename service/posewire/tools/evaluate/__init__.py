"""COCO metrics, errors by keypoint, and what scores mean."""
