# /// script
# requires-python = ">=3.10"
# dependencies = ["spatialavatar[train,trackio]"]
#
# [tool.hf-jobs]
# name = "spatialavatar-train"
# flavor = "a10g-large"
# timeout = "8h"
# secrets = ["HF_TOKEN"]
# ///
"""Train the network of stage 1 as a Hugging Face Job, and push it.

    hf jobs uv run integrations/jobs/train.py --shards you/shards --config monocular.toml --push you/heads

The shards are a dataset on the Hub that `spatialavatar shards` made; the configuration is a file in it. The job pushes
run's folder to the model repository while it trains, so that a second job with the same arguments continues it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main() -> None:
    """Download shards and run, train, push."""
    parser = argparse.ArgumentParser(description="Train the network of stage 1 and push it.")
    parser.add_argument("--shards", required=True, help="dataset on the Hub with the folders of shards")
    parser.add_argument("--config", required=True, help="configuration in that dataset")
    parser.add_argument("--push", required=True, help="model repository for the run")
    options = parser.parse_args()

    from huggingface_hub import CommitScheduler, HfApi, snapshot_download

    import spatialavatar
    from spatialavatar.training.config import read_training_config
    from spatialavatar.training.launcher import train

    data = Path(snapshot_download(options.shards, repo_type="dataset", local_dir="data")).resolve()
    HfApi().create_repo(options.push, exist_ok=True, private=True)
    os.chdir(data)  # the paths of a configuration are relative to the working directory
    config = read_training_config(options.config)
    run = Path(config.out)
    run.mkdir(parents=True, exist_ok=True)
    HfApi().snapshot_download(options.push, allow_patterns=["run/**"], local_dir=run.parent / "pushed")
    for file in (run.parent / "pushed" / "run").glob("*"):
        file.rename(run / file.name)
    with CommitScheduler(repo_id=options.push, folder_path=run, path_in_repo="run", every=10):
        done = train(config, lambda share, message: print(f"{share:.1%} {message}", flush=True))
    spatialavatar.SpatialAvatar.from_pretrained(str(done.model)).push_to_hub(options.push)


if __name__ == "__main__":
    main()
