"""Reports: `html_page` writes self-contained pages, `plotting` their pictures."""
