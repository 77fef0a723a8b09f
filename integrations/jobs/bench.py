# /// script
# requires-python = ">=3.10"
# dependencies = ["spatialavatar"]
#
# [tool.hf-jobs]
# name = "spatialavatar-bench"
# flavor = "cpu-upgrade"
# timeout = "4h"
# secrets = ["HF_TOKEN"]
# ///
"""Measure a model as a Hugging Face Job, and push the results.

    hf jobs uv run integrations/jobs/bench.py --data you/clips --protocol self --model you/heads --push you/results

The data are a dataset on the Hub in a layout that `spatialavatar bench` reads (docs/reference/evaluation.md).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Download data, measure, push."""
    parser = argparse.ArgumentParser(description="Measure a model and push the results.")
    parser.add_argument("--data", required=True, help="dataset on the Hub")
    parser.add_argument("--protocol", required=True, help="of spatialavatar bench")
    parser.add_argument("--model", default="", help="model repository; default: the one that ships")
    parser.add_argument("--push", required=True, help="dataset repository for the results")
    options = parser.parse_args()

    from huggingface_hub import HfApi, snapshot_download

    data = snapshot_download(options.data, repo_type="dataset", local_dir="data")
    out = Path("results")
    words = ["bench", options.protocol, data, "--out", str(out)]
    words += ["--model", options.model] if options.model else []
    subprocess.run([sys.executable, "-m", "spatialavatar", *words], check=True)
    HfApi().create_repo(options.push, repo_type="dataset", exist_ok=True, private=True)
    HfApi().upload_folder(repo_id=options.push, repo_type="dataset", folder_path=out, path_in_repo=options.protocol)


if __name__ == "__main__":
    main()
