"""A machine that is not at hand."""

from collections.abc import Sequence
from typing import Any

import onnxruntime

from posewire.backends.device import CPU_PROVIDER


class Machine:
    """ONNX Runtime as on another machine: what it carries and how it loads is made up, the models run on the CPU.

    Args:
        available: providers of the build.
        active: providers that a session gets; None: those that were asked for.
        error: raised when a session asks for anything but the CPU.
    """

    def __init__(self, *available: str, active: Sequence[str] | None = None, error: Exception | None = None) -> None:
        self.opened: list[dict[str, dict[str, str]]] = []  # each session's providers with their options, in order
        self._available = available
        self._active = active
        self._error = error

    def get_available_providers(self) -> Sequence[str]:
        return self._available

    def InferenceSession(self, model: bytes, /, **options: Any) -> Any:  # noqa: N802
        providers: list[str] = options["providers"]
        self.opened.append(dict(zip(providers, options["provider_options"], strict=True)))
        if self._error and providers != [CPU_PROVIDER]:
            raise self._error
        session = onnxruntime.InferenceSession(model, sess_options=options["sess_options"], providers=[CPU_PROVIDER])
        return _Session(session, providers if self._active is None or providers == [CPU_PROVIDER] else self._active)


class _Session:
    def __init__(self, session: Any, providers: Sequence[str]) -> None:
        self._session = session
        self._providers = providers
        self.run_with_iobinding = session.run_with_iobinding
        self.run = session.run

    def get_providers(self) -> Sequence[str]:
        return self._providers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
