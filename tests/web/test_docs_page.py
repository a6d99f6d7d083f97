"""The page at /docs in a real browser."""

from tests.server.streaming import Listen
from tests.web.conftest import OpenPage


async def test_the_page_of_the_api_is_as_wide_as_the_screen(listen: Listen, open_page: OpenPage) -> None:
    server = await listen()
    complaints: list[str] = []
    page = await open_page(f"{server.url}/docs", complaints, camera=False, width=360)
    operations = page.locator(".opblock-summary-control")
    await operations.first.wait_for()
    assert await operations.count() == sum(len(methods) for methods in server.app.openapi()["paths"].values())
    for name in ("estimate_poses_in_image", "process_video"):
        await page.locator(f"[id$=-{name}] .opblock-summary-control").click()
        await page.locator(f"[id$=-{name}] .responses-table").first.wait_for()
    for width in (360, 1280):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate("document.documentElement.scrollWidth") == width
    assert complaints == []
