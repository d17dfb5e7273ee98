"""The images of a notebook: what its outputs, attachments and files hold, laid ready for Typst under plain names."""

import base64
import binascii
import json
import re
import urllib.parse

import typst

EMBEDDED = "attachment:"
SUFFIXES = {
    "image/svg+xml": ".svg",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "application/pdf": ".pdf",
}
LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(px|%|pt|mm|cm|in|)")


class ImageError(Exception):
    """An image can't be shown; the message is the end of a sentence."""


class Images:
    """Images are given to Typst by name, in its own folder: it reads nothing else."""

    def __init__(self, folder, notebook_folder):
        self.folder = folder
        self.notebook_folder = notebook_folder
        self.labels = set()
        self._count = 0

    def add(self, data, mime_type):
        """Store an image and return its name.

        Args:
            data: bytes, or text as in a notebook: SVG as it is, all others in base64.
            mime_type: its type.

        Raises:
            ImageError: Typst can't read it.
        """
        if mime_type not in SUFFIXES:
            raise ImageError(f"its type, {mime_type}, is none that a page can show")
        if isinstance(data, str):
            try:
                data = data.encode() if mime_type == "image/svg+xml" else base64.b64decode(data)
            except (binascii.Error, ValueError):
                raise ImageError("its data are damaged") from None
        self._count += 1
        name = f"image-{self._count}{SUFFIXES[mime_type]}"
        (self.folder / name).write_bytes(data)
        try:
            typst.compile(f'#image("{name}")'.encode(), root=self.folder, ignore_system_fonts=True)
        except typst.TypstError:
            raise ImageError("its data are damaged") from None
        return name

    def find(self, url):
        """Store the image that a Markdown or HTML page names by this URL, and return its name.

        Raises:
            ImageError: it can't be had.
        """
        if url.startswith(EMBEDDED):
            name = url.removeprefix(EMBEDDED)
            if re.fullmatch(r"image-\d+\.\w+", name) and (self.folder / name).exists():
                return name
            raise ImageError("the notebook has no attachment of this name")
        if url.startswith("data:"):
            head, _, data = url.removeprefix("data:").partition(",")
            mime_type, *options = head.split(";")
            data = urllib.parse.unquote(data) if mime_type == "image/svg+xml" or "base64" in options else data
            return self.add(base64.b64decode(data) if "base64" in options else data, mime_type)
        if re.match(r"(?:[a-z][a-z+.-]+:)?//", url, re.IGNORECASE) and not url.startswith("file:"):
            raise ImageError("it is on the network")
        return self._find_file(url)

    def _find_file(self, url):
        plain = url.removeprefix("file://")
        unquoted = urllib.parse.unquote(re.sub(r"[?#].*", "", plain))
        for name in (plain, unquoted, unquoted.replace("\\", "/")):
            path = self.notebook_folder / name
            try:
                content = path.read_bytes()
            except (OSError, ValueError):
                continue
            mime_type = _type_of(content) or next(
                (mime_type for mime_type, suffix in SUFFIXES.items() if suffix == path.suffix.lower()), path.suffix
            )
            return self.add(content, mime_type)
        raise ImageError("there is no such file beside the notebook")


def _type_of(content):
    """Return the type of an image by its first bytes: many a .png is a JPEG."""
    beginnings = {
        b"\x89PNG": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF8": "image/gif",
        b"RIFF": "image/webp",
        b"%PDF-": "application/pdf",
    }
    for beginning, mime_type in beginnings.items():
        if content.startswith(beginning):
            return mime_type
    return "image/svg+xml" if b"<svg" in content[:2000] else None


def typst_length(value):
    """Return a length as Typst writes it, None for what is none. Pixels are those of the web, 96 an inch."""
    match = LENGTH.fullmatch(str(value).strip())
    if match is None:
        return None
    number, unit = match.groups()
    return f"{float(number) * 0.75:g}pt" if unit in ("", "px") else f"{number}{unit}"


def typst_string(text):
    """Return a text as a Typst string, without backticks: one would end the raw Typst in which the string stands."""
    return json.dumps(without_controls(str(text)), ensure_ascii=False).replace("`", r"\u{60}")


def without_controls(text):
    """Leave out the control characters, which no page shows and Typst's strings don't take."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)


def size_arguments(settings):
    """Return an image's width, or else its height, as arguments of a Typst function."""
    for key in ("width", "height"):
        if length := typst_length(settings.get(key, "")):
            return [f"{key}: {length}"]
    return []
