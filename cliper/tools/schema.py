"""Print the JSON schema of the config, with which editors complete and check YAML.

In:   the models of the config
Out:  the schema on standard output; the copy in the repository is docs/config.schema.json
"""

from __future__ import annotations

import json
import sys

from cliper.config import Config
from cliper.layout import Layout


def run(_layout: Layout) -> None:
    """Print the schema."""
    sys.stdout.write(json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n")
