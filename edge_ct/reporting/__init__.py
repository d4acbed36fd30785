"""Parts of reports.

- `html_page`  writes self-contained pages
- `markdown`   turns model cards into HTML
- `plotting`   holds what plots of several wings share
- `counts`     agrees counts with their nouns
"""
