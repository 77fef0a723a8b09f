"""Starts the web page, as a Hugging Face Space and on any machine: ``python app.py``."""

from spatialavatar.app.server import run_app

if __name__ == "__main__":
    run_app()
