"""The web app: its page, its endpoints for programs, and the work behind both.

* ``server``: starts and stops the app (``spatialavatar app``, ``app.py``).
* ``endpoints``: each endpoint, described once; ``api`` serves them to programs, ``checks`` refuses wrong values.
* ``service``: runs the work of an endpoint; ``backend`` is the work, ``requests`` its inputs, ``steps`` its progress.
* ``admission``, ``jobs``: which calls are queued, and how a call is stopped.
* ``sessions``: the visitors' files on disk.
* ``page``: what people see, with one module for each of its four steps: ``create``, ``sharpen``, ``drive``, ``save``.

Importing this package imports neither gradio nor spaces: ``server`` sets environment variables first.
"""
