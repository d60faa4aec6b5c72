"""A process that writes into a shared cache and reads from it: `cache_process.py FILE NAME COUNT`.

It keeps COUNT answers under keys that all such processes use, and says for each key what it then finds there: a line of
JSON, `[key, answer]`. Between two keys it looks up what others may have written.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from metaharness.gateway.shared import SharedCache, Stored


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def main() -> None:
    file, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    cache = SharedCache(file)
    for number in range(count):
        found = cache.lookup(key(number))
        if found is None:
            found = Stored({"text": f"{number} by {name}", "filling": "x" * 2000}, float(number))
            cache.keep(key(number), found)
        sys.stdout.write(json.dumps([number, found.response["text"]]) + "\n")
        sys.stdout.flush()
    cache.close()
    assert cache.off is None, cache.off


if __name__ == "__main__":
    main()
