"""What ``mura-skorch cache`` does: list or remove the caches of prepared views in a folder."""

import time
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from mura_skorch.commands import CommandError
from mura_skorch.commands.json_output import with_json
from mura_skorch.data.cache import CacheFile, list_caches, remove_caches
from mura_skorch.utils.text import printable

__all__ = ["main"]


@with_json
def main(args: Namespace, result: dict[str, Any]) -> int:
    """List or remove caches, and print each; return 0."""
    try:
        if args.action == "list":
            done, caches = "", list_caches(args.folder)
        else:
            done, caches = (
                "removed ",
                remove_caches(args.folder, unused_days=args.unused_days, all_files=args.all_files),
            )
    except (FileNotFoundError, PermissionError) as error:
        raise CommandError(error) from error
    for cache in caches:
        print(_line(cache))
    size = sum(cache.n_bytes for cache in caches)
    print(f"{done}{len(caches):,} caches, {size / 1e9:.2f} GB")
    result |= {
        "removed": bool(done),
        "n_bytes": size,
        "caches": [asdict(cache) for cache in caches],
    }
    return 0


def _line(cache: CacheFile) -> str:
    """Return a row of the list: size, views, last use, problem, name."""
    n_views = "" if cache.n_views is None else f"{cache.n_views:,} views"
    used = time.strftime("%Y-%m-%d", time.localtime(cache.last_used))
    problem = cache.problem or "in use"
    size = f"{cache.n_bytes / 1e6:,.1f} MB"
    return f"{size:>12}  {n_views:>16}  {used}  {problem:<19}  {printable(cache.file.name)}"
