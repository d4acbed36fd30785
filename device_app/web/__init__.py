"""`edge-ct serve`: the worklist as a local web page, for a small touch screen and a phone. Needs the `web` extra.

- `commands`  the command: options in, a running server out
- `server`    sockets, signals, a stop that loses nothing
- `app`       the Flask application: which address leads where, and the checks before and after
- `desk`      what all pages share: worklist, workers, folders, sessions
- `guard`, `pin`, `sessions`  who may ask what
- `intake`    uploads and folders into the queue; `workers`, `folders` behind it
- `pages`, `views`, `drawing`, `health`  what is shown
- `events`    live progress
- `strings`   the words, in every language
"""
