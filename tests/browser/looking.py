"""What a test sees of a page in a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from selenium import webdriver

_CONTRAST = """
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * x + .7152 * y + .0722 * z;
};
const rgb = text => text.match(/[0-9.]+/g).map(Number);
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
for (let node; node = texts.nextNode();) {
  if (!node.data.trim()) continue;
  const style = getComputedStyle(node.parentElement);
  const colours = [rgb(style.color), ground(node.parentElement)];
  const [a, b] = colours.map(luminance).sort((x, y) => y - x);
  found.push([node.data.trim().slice(0, 40), parseFloat(style.fontSize), (a + .05) / (b + .05)]);
}
return found;
"""


@dataclass
class Browser:
    """A page as it is shown."""

    chrome: webdriver.Chrome

    @classmethod
    def at(cls, chrome: webdriver.Chrome, url: str, width: int, *, dark: bool = False) -> Self:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        chrome.get_log("browser")  # type: ignore[no-untyped-call]  # of the page before
        chrome.get(url)
        return cls(chrome)

    def run(self, script: str) -> Any:
        return self.chrome.execute_script(script)

    @property
    def errors(self) -> list[str]:
        """Whatever the console says, what the policy kept out included."""
        return [entry["message"] for entry in self.chrome.get_log("browser")]  # type: ignore[no-untyped-call]

    @property
    def images(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run(
            "return [...document.images].map(i => ({alt: i.alt, natural: i.naturalWidth, "
            "shown: i.getBoundingClientRect().width, complete: i.complete, "
            "left: i.getBoundingClientRect().left, top: i.getBoundingClientRect().top}))"
        )
        return found

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    @property
    def overflow(self) -> int:
        """By so many pixels the page is wider than its window."""
        return int(
            self.run(
                "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

    @property
    def texts(self) -> list[tuple[str, float, float]]:
        """Each piece of text with its size in pixels and its contrast to what is behind it."""
        return [(text, size, contrast) for text, size, contrast in self.run(_CONTRAST)]
