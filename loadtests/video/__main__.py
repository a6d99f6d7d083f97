"""Measure: `python -m loadtests.video identities | jitter | skipping [VIDEO]`."""

import asyncio
import sys
from pathlib import Path

from loadtests.video import films, identities, jitter, skipping

_MEASURES = {"identities": identities.measure, "jitter": jitter.measure, "skipping": skipping.measure}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in _MEASURES:
        sys.exit(__doc__)
    video = Path(sys.argv[2]) if len(sys.argv) > 2 else films.VTEST
    if not video.is_file():
        sys.exit(f"{video} is not there: apt-get install opencv-doc, or name the video")
    asyncio.run(_MEASURES[sys.argv[1]](video))
