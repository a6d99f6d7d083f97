"""Load tests: what an operator may expect of the service, measured from outside."""

import posewire  # noqa: F401 - turns ONNX Runtime's telemetry off, before a module here imports it
