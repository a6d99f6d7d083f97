"""Exit code 0 while the service says that it lives: for images, which carry no curl."""

import os
import sys
import urllib.error
import urllib.request

port = os.environ.get("POSEWIRE_OPS_PORT") or os.environ.get("POSEWIRE_PORT") or "8000"
try:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=4).close()
except (urllib.error.URLError, TimeoutError) as error:
    sys.exit(f"/livez does not answer: {error}")
