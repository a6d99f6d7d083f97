"""The heads: each reads one layout of a network's output, and is one file of this folder that registers itself.

All files of this folder are imported with it, so that a new head needs no change elsewhere.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
