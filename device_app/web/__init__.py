"""`edge-ct serve`: the worklist as a local web page, for a small touch screen and a phone. Needs the `web` extra.

- `commands`         the command-line options of `edge-ct serve`
- `server`           sockets, signals, and a shutdown that loses nothing
- `http_front`       the HTTP server: deadlines, and places for everybody
- `body_admission`   which requests may send a body
- `app`              the Flask application: routes, and the checks before and after each request
- `request_context`  what a view needs from the current request: services, language, session
- `services`         worklist, judging queue, folders and sessions, shared by all requests
- `request_checks`, `pin`, `sessions`, `sign_in`  who may send which request
- `uploads`          uploads and folders into the judging queue
- `judging_queue`, `folders`  judging and reading folders in the background
- `views`            the pages and pictures
- `presenters`       rows and model figures as text for the templates
- `events`           live progress by server-sent events
- `translations`     texts in English and Portuguese, from `strings.json`
"""
