"""The page of the settings is what config.py says."""

from website.settings_page import PAGE, settings_page


def test_the_page_has_every_setting_with_its_default() -> None:
    assert PAGE.read_text() == settings_page(), "`make docs` writes it anew"
