"""Update the sizes and hashes of ``weights/MANIFEST.json``.

What a person wrote in an entry (licence, source, description) is kept. The script fails, and writes nothing, where a
file has no entry, an entry no file, or an entry lacks something: add or remove the entry by hand, then run it again.

    python scripts/update_manifest.py            # write
    python scripts/update_manifest.py --check    # only compare; exit status 1 if the manifest is out of date
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "weights"
MANIFEST = WEIGHTS / "MANIFEST.json"
WRITTEN_BY_HAND = ("licence", "licence_text", "source", "upstream", "what", "script", "trained_on")


def listed_files() -> list[Path]:
    """Every file under weights/ that needs an entry: all but the manifest, the licences and texts for people."""
    files = (path for path in WEIGHTS.rglob("*") if path.is_file() and path.suffix != ".md" and path != MANIFEST)
    return sorted(path for path in files if WEIGHTS / "licences" not in path.parents and path.name[0] != ".")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the manifest is out of date")
    options = parser.parse_args()

    before = MANIFEST.read_text(encoding="utf-8")
    entries = {entry["path"]: entry for entry in json.loads(before)["files"]}
    paths = {path.relative_to(ROOT).as_posix(): path for path in listed_files()}
    problems = [f"{name}: no entry in the manifest" for name in paths.keys() - entries.keys()]
    problems += [f"{name}: in the manifest, but not there" for name in entries.keys() - paths.keys()]
    for name, entry in entries.items():
        problems += [f"{name}: the entry has no {key!r}" for key in WRITTEN_BY_HAND if not entry.get(key)]
    if problems:
        print("\n".join(sorted(problems)), file=sys.stderr)
        return 1

    rows = []
    for name, path in sorted(paths.items()):
        data = path.read_bytes()
        facts = {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        rows.append(facts | {key: entries[name][key] for key in WRITTEN_BY_HAND})
    after = json.dumps({"files": rows}, indent=2, ensure_ascii=False) + "\n"
    if options.check:
        if after != before:
            print(f"{MANIFEST.name} is out of date; run python scripts/update_manifest.py", file=sys.stderr)
        return int(after != before)
    MANIFEST.write_text(after, encoding="utf-8")
    print(f"{len(rows)} files, {sum(row['bytes'] for row in rows) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
