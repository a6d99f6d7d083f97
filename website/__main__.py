"""`python -m website` writes the pages that are made from code and lie in the repository."""

from website.settings_page import PAGE, settings_page

PAGE.write_text(settings_page())
