"""Pictures of a page, to look at: 1280 and 390 px, light and dark, the first screen and the whole.

PYTHONPATH=tests .venv/bin/python docs/screenshot.py results/demo/report/index.html FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from browser import NARROW, WIDE, chromium, opened


def main(file: Path, folder: Path) -> None:
    """Write the eight pictures."""
    with chromium() as browser:
        for width in (WIDE, NARROW):
            for scheme in ("light", "dark"):
                with opened(browser, file, width=width, color_scheme=scheme) as found:
                    for part in ("screen", "whole"):
                        path = folder / f"{width}-{scheme}-{part}.png"
                        found.page.screenshot(path=path, full_page=part == "whole")
                        print(path)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
