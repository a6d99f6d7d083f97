"""The recognisers of layouts, one file for each head or for similar ones. They look at the names, shapes and values of a file's outputs.

All files of this folder are imported with it. They are not in the files of the heads, because the service imports those, and no tools.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
