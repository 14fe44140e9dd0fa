"""Text that enters XML, and the image properties that are allowed to shape a domain.

ElementTree escapes markup, but it writes characters that XML 1.0 cannot carry at all
(https://www.w3.org/TR/xml/#charsets); those are replaced in labels and refused elsewhere.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from novakube_kit.errors import InvalidSpec

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]|" + _NOT_XML.pattern)


def label(text: str) -> str:
    """Free text for people, on one line; what XML cannot carry becomes U+FFFD."""
    return _CONTROL.sub("\ufffd", text)


def exact(field: str, text: str) -> str:
    """Text that must arrive unchanged, such as a path or a kernel argument.

    Raises:
        InvalidSpec: it holds control characters or others that XML cannot carry.
    """
    found = _CONTROL.search(text)
    if found is not None:
        raise InvalidSpec(
            f"{field} holds the character U+{ord(found.group()):04X}; allowed is printable text",
            reason="InvalidText",
        )
    return text


def element(parent: ET.Element, tag: str, text: str | None = None, **attrs: str) -> ET.Element:
    """Appends a child and returns it."""
    child = ET.SubElement(parent, tag, attrs)
    child.text = text
    return child


def choice(properties: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    """The value of an image property out of a closed set.

    Raises:
        InvalidSpec: another value; names the property and what is allowed.
    """
    value = properties.get(name, default)
    if value not in allowed:
        raise InvalidSpec(
            f"image property {name} is {value!r}; allowed: {', '.join(allowed)}",
            reason="InvalidImageProperty",
        )
    return value


def flag(properties: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A yes/no image property, in the spellings Nova takes.

    Raises:
        InvalidSpec: neither yes nor no.
    """
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    value = choice(
        {name: properties[name].lower()} if name in properties else {},
        name,
        tuple(words),
        "yes" if default else "no",
    )
    return words[value]


def whole(properties: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    """A whole-number image property within bounds; None when absent.

    Raises:
        InvalidSpec: no number, or out of bounds.
    """
    value = properties.get(name)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise InvalidSpec(
            f"image property {name} is {value!r}; allowed: a whole number from {low} to {high}",
            reason="InvalidImageProperty",
        )
    return int(value)
