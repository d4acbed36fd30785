"""Parts of reports: `html_page` writes self-contained pages, `plotting` holds what plots of several wings share."""
