"""What runs behind and on the web page; ``app.py`` beside this folder starts it.

* ``steps``: long work as a stream of steps that can be shown and stopped.
* ``backend``: the work itself, with what of it runs on a GPU.
* ``endpoints``: the same for programs: files in, files out, checked before they queue.
* ``page``: what people see.

Importing this package imports neither gradio nor spaces; ``app.py`` sets environment variables first.
"""
