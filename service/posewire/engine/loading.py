"""The loaders of the pipeline, under the name that the engine imports them by."""

from posewire.pipeline.loading import plan_device
from posewire.pipeline.pose_pipeline import load_pipeline

__all__ = ["load_pipeline", "plan_device"]
